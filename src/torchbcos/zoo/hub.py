"""Models of the Hugging Face hub: "hf-hub:org/name" or "hf-hub:org/name@revision"; two files, and nothing else, are taken."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

from torchbcos._core.errors import InputError, WeightsError, shorten
from torchbcos._core.names import quote
from torchbcos._core.optional import require

__all__ = ["HUB", "fetch_folder"]

HUB = "hf-hub:"
_PATIENCE = 5.0  # seconds until a hub that does not answer counts as out of reach
_SOURCE = re.compile(r"(?!.*\.\.)(?P<repository>[\w.-]{1,96}/[\w.-]{1,96})(@(?P<revision>[\w./-]{1,255}))?", re.ASCII)


def fetch_folder(source: str, files: tuple[str, ...]) -> Path:
    """The folder of the local cache with these files of a repository, all of one revision; downloaded where they are not there.

    Args:
        source: "hf-hub:org/name", or with a branch, tag or commit: "hf-hub:org/name@v2".
        files: their names.

    Raises:
        InputError: the source is not written like this.
        MissingPackageError: huggingface_hub is not installed.
        WeightsError: the hub is out of reach, or has no such repository, revision or files.
    """
    hub = require("huggingface_hub", extra="hub", why="hf-hub: sources")
    match = _SOURCE.fullmatch(source.removeprefix(HUB))
    if match is None:
        raise InputError(f"A source on the hub is 'hf-hub:org/name' or 'hf-hub:org/name@revision', not {quote(source)}.")
    repository, revision = match["repository"], match["revision"]
    try:
        wanted, offline = _revision(hub, repository, files[0], revision)
        found = [Path(hub.hf_hub_download(repository, name, revision=wanted, local_files_only=offline)) for name in files]
    except Exception as error:  # huggingface_hub's own errors and those of the library under it, which is another one every year
        raise WeightsError(_sentence(error, source.removeprefix(HUB), files)) from error
    if len({path.parent for path in found}) != 1:
        raise WeightsError(f"{source} changed while it was fetched: try again.")
    return found[0].parent


def _revision(hub: ModuleType, repository: str, name: str, revision: str | None) -> tuple[str | None, bool]:
    """The commit that a revision is today, and whether the hub is out of reach, so that the cache must do.

    One question with a short patience: `hf_hub_download` itself would ask six times, for half a minute.
    """
    try:
        answer = hub.get_hf_file_metadata(hub.hf_hub_url(repository, name, revision=revision), timeout=_PATIENCE)
    except Exception as error:
        if _status(error) is not None:  # it did answer
            raise
        return revision, True
    return answer.commit_hash or revision, False


def _status(error: Any) -> int | None:
    """The number of an HTTP answer in an error of huggingface_hub."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _sentence(error: Exception, source: str, files: tuple[str, ...]) -> str:
    status = _status(error)
    if status in (401, 403, 404):
        reason = f"there is no such repository, revision or file ({', '.join(files)}), or it is private."
    elif status is not None:
        reason = f"it answered with the number {status}; try again later."
    elif isinstance(error, FileNotFoundError):
        reason = "it is out of reach, and the local cache has no such model: check the network."
    else:
        reason = shorten((str(error).splitlines() or [""])[0] or type(error).__name__, 200)
    return f"Could not fetch {source!r} from the hub: {reason}"
