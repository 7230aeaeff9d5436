"""A notebook with its outputs as Markdown."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

__all__ = ["as_markdown"]

PICTURES = {"image/png": "png", "image/jpeg": "jpg"}


def as_markdown(path: Path) -> tuple[str, dict[str, bytes]]:
    """The text of a notebook, and its pictures: name in the site -> bytes."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    text: list[str] = []
    pictures: dict[str, bytes] = {}
    for number, cell in enumerate(cells, 1):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            text.append(source)
            continue
        text.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            text.append(_output(output, f"{path.stem}/{number}", pictures))
    return "\n\n".join(text) + "\n", pictures


def _output(output: dict[str, Any], name: str, pictures: dict[str, bytes]) -> str:
    data = output.get("data", {})
    for kind, suffix in PICTURES.items():
        if kind in data:
            file = f"{name}-{len(pictures)}.{suffix}"
            pictures[file] = base64.b64decode("".join(data[kind]))
            return f"![{''.join(data['text/plain'])}]({file})"
    words = "".join(output["text"] if "text" in output else data["text/plain"])
    return f"```{{ .text .output }}\n{words.rstrip()}\n```"
