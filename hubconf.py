"""The official networks for `torch.hub.load("<owner>/torchbcos", "resnet50", pretrained=True)`.

Arguments are those of `torchbcos.create_model`; without `pretrained=True` the network is fresh. Networks whose weights
come along have them at once: `torch.hub.load("<owner>/torchbcos", "imagenet")`, of 1,000 classes, and "imagenette", of ten.
"""

import importlib as _importlib
import json as _json
import sys as _sys
from collections.abc import Callable as _Callable
from pathlib import Path as _Path
from typing import Any as _Any

# torch.hub checks these before it calls anything below, and names the ones that are missing
dependencies = ["torch", "numpy", "PIL", "safetensors", "rich", *(["tomli"] if _sys.version_info < (3, 11) else [])]

_SOURCE = _Path(__file__).resolve().parent / "src"


def _library() -> _Any:
    # torch.hub fetches the repository and installs nothing: the library is imported from here
    if str(_SOURCE) not in _sys.path:
        _sys.path.insert(0, str(_SOURCE))
    return _importlib.import_module("torchbcos")


def _create(*args: _Any, **options: _Any) -> _Any:
    return _library().create_model(*args, **options)


def _entry(name: str) -> _Callable[..., _Any]:
    def build(*args: _Any, **options: _Any) -> _Any:
        return _create(name, *args, **options)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"`torchbcos.create_model({name!r}, ...)`; official weights with `pretrained=True`."
    return build


globals().update({_card.stem: _entry(_card.stem) for _card in sorted(_SOURCE.glob("torchbcos/zoo/cards/*.toml"))})


def _embedded(folder: _Path) -> _Callable[..., _Any]:
    def build(**options: _Any) -> _Any:
        if _json.loads((folder / "card.json").read_text("utf-8"))["architecture"] != "sequential":
            return _create(weights=folder, **options)
        if options:
            raise TypeError(f"{folder.name} is a row of layers as it was trained, and takes no options.")
        return _library().load(folder, device="cpu", deploy=False).model

    build.__name__ = build.__qualname__ = folder.name
    build.__doc__ = f"The network {folder.name!r} that comes with the package, with its weights; options as of `create_model`."
    return build


globals().update(
    {_card.parent.name: _embedded(_card.parent) for _card in sorted(_SOURCE.glob("torchbcos/zoo/embedded/*/card.json"))}
)
