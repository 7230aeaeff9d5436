"""What the site has beyond the pages of docs: files that pages link to, each as a page; and notebooks as pages.

A link in a page leads to a file of the repository. Where that file is no page of the site, it becomes one here: Markdown as it
is, code in a block. Links are then turned to these pages. MkDocs calls the functions that begin with `on_`.
"""

from __future__ import annotations

import os.path
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from notebook import as_markdown  # this folder is on the path while the hook is loaded
from offline import fetched

LINK = re.compile(r"(\]\()(?!https?:|mailto:|#)([^)#\s]+)([^)\n]*\))")
FENCE = re.compile(r"(^[ ]*```.*?^[ ]*```[ ]*$)", re.S | re.M)
LANGUAGES = {".py": "python", ".toml": "toml", ".json": "json", ".yml": "yaml", ".sh": "bash"}
SHOWN = {*LANGUAGES, ".md", ".txt", ".cff", ""}  # as pages; anything else in docs is served as it is

_home: dict[str, str] = {}  # page of the site -> its file in the repository


def place(target: str, root: Path) -> str | None:
    """The page of the site for a file or folder of the repository; None: none is wanted."""
    inside = target.startswith("docs/")
    if (root / target).is_dir():
        readme = f"{target}/README.md"
        return place(readme, root) if (root / readme).is_file() else f"source/{target}.md"
    suffix = posixpath.splitext(target)[1]
    if inside and suffix == ".md":
        return target.removeprefix("docs/")
    if inside and suffix == ".ipynb":
        return target.removeprefix("docs/").replace(".ipynb", ".md")
    if suffix not in SHOWN or (inside and suffix != ".py"):
        return None
    return f"source/{target}" if suffix == ".md" else f"source/{target}.md"


def targets(text: str, home: str) -> dict[str, str]:
    """The links of a page -> the files of the repository that they lead to."""
    prose = FENCE.sub("", text)
    return {link[1]: posixpath.normpath(posixpath.join(posixpath.dirname(home), link[1])) for link in LINK.findall(prose)}


def as_page(root: Path, target: str) -> str:
    """A file as Markdown; of a folder the names of its files."""
    if (root / target).is_dir():
        names = sorted(path.relative_to(root / target).as_posix() for path in (root / target).rglob("*") if path.is_file())
        folder = posixpath.basename(target)
        return f"# {folder}\n\n" + "".join(f"- [{name}]({folder}/{name})\n" for name in names)
    text = (root / target).read_text("utf-8")
    if target.endswith(".md"):
        return text
    language = LANGUAGES.get(posixpath.splitext(target)[1], "text")
    return f"# {posixpath.basename(target)}\n\n`{target}` in the repository.\n\n````{language}\n{text}\n````\n"


def on_files(files: Files, config: Any) -> Files:
    """Add a page for every file that a page links to, and for every notebook."""
    root = Path(config.config_file_path).parent
    _home.clear()
    waiting: list[tuple[str, str]] = []
    for file in files.documentation_pages():
        _home[file.src_uri] = f"docs/{file.src_uri}"
        waiting.append((_home[file.src_uri], file.content_string))
    for path in sorted((root / "docs").glob("*.ipynb")):
        text, pictures = as_markdown(path)
        home, page = f"docs/{path.name}", f"{path.stem}.md"
        _home[page] = home
        files.append(File.generated(config, page, content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, name, content=content))
        waiting.append((home, text))
    while waiting:
        home, text = waiting.pop()
        for target in targets(text, home).values():
            page = place(target, root)
            if page is None or page in _home or not (root / target).exists():
                continue
            _home[page] = target
            text_of = as_page(root, target)
            files.append(File.generated(config, page, content=text_of))
            waiting.append((target, text_of))
    return files


def turned(text: str, page: str, root: Path) -> str:
    """A page whose links lead to pages of the site. What it does not have is left, and `mkdocs build --strict` complains."""
    home = _home[page]

    def turn(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(home), match[2]))
        found = place(target, root)
        if found not in _home:
            if not target.startswith("docs/"):
                return match[0]
            found = target.removeprefix("docs/")
        return f"{match[1]}{os.path.relpath(found, posixpath.dirname(page) or '.')}{match[3]}"

    parts = FENCE.split(text)
    return "".join(part if FENCE.match(part) else LINK.sub(turn, part) for part in parts)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn the links of a page."""
    return turned(markdown, page.file.src_uri, Path(config.config_file_path).parent)


def on_post_build(config: Any) -> None:
    """Refuse a site that needs a network to be read."""
    if found := fetched(Path(config.site_dir)):
        raise PluginError(f"These pages fetch a script, a style or a picture from elsewhere: {', '.join(sorted(found))}")


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Let a click on a picture open it in full, unless it is a link already."""
    return re.sub(r'(<img [^>]*?src="([^"]+)"[^>]*>)(?!</a>)', r'<a class="picture" href="\2">\1</a>', html)
