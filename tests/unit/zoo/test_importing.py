"""Code of somebody's own: found by name, called with what it takes, and never from where it must not come."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from torchbcos._core.errors import ArgumentTypeError, InputError
from torchbcos.zoo.importing import builder_fault, builder_path, run_builder

CALLED: dict[str, Any] = {}
SIZES: dict[str, Any] = {"num_classes": 3, "in_channels": 4}


def keep(**given: Any) -> nn.Module:
    CALLED.clear()
    CALLED.update(given)
    return nn.Identity()


def both(num_classes: int, in_channels: int) -> nn.Module:
    return keep(num_classes=num_classes, in_channels=in_channels)


def one(num_classes: int) -> nn.Module:
    return keep(num_classes=num_classes)


def none() -> nn.Module:
    return keep()


def keywords(*, in_channels: int, width: int = 8) -> nn.Module:
    return keep(in_channels=in_channels, width=width)


def anything(**options: Any) -> nn.Module:
    return keep(**options)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()

    @staticmethod
    def wide(num_classes: int, depth: int) -> nn.Module:
        return keep(num_classes=num_classes, depth=depth)


def fails(num_classes: int) -> nn.Module:
    raise ZeroDivisionError(f"{num_classes} and\nno more")


def leaves() -> nn.Module:
    sys.exit(3)


def nothing() -> None: ...


HERE = __name__


@pytest.mark.parametrize(
    ("name", "options", "given"),
    [
        ("both", {}, SIZES), ("one", {}, {"num_classes": 3}), ("none", {}, {}),
        ("keywords", {"width": 2}, {"in_channels": 4, "width": 2}), ("anything", {"a": 1}, {**SIZES, "a": 1}),
        ("Net.wide", {"depth": 2}, {"num_classes": 3, "depth": 2}),
    ],
)  # fmt: skip
def test_a_builder_gets_what_its_signature_takes(name: str, options: dict[str, Any], given: dict[str, Any]) -> None:
    assert isinstance(run_builder(f"{HERE}:{name}", options=options, **SIZES), nn.Module)
    assert given == CALLED


def test_a_class_without_arguments_is_a_builder() -> None:
    assert isinstance(run_builder(f"{HERE}:Net", options={}, **SIZES), Net)


@pytest.mark.parametrize(
    ("path", "options", "text"),
    [
        (f"{HERE}:one", {"widht": 2}, r"takes no option 'widht'"),
        (f"{HERE}:keywords", {"widht": 2}, r"takes no option 'widht'. Did you mean 'width'"),
        (f"{HERE}:Net.wide", {}, "needs 'depth', which it is not given: a builder must take num_classes, in_channels"),
        (f"{HERE}:fails", {}, r"failed: ZeroDivisionError: 3 and no more \(test_importing.py, line \d+\)"),
        (f"{HERE}:leaves", {}, "failed: SystemExit: 3"),
        (f"{HERE}:nothing", {}, "must return a torch.nn.Module, and returned NoneType"),
        (f"{HERE}:oen", {}, "has no 'oen'. Did you mean 'one'"),
        (f"{HERE}:HERE", {}, "it is a str"),
        ("no_such_module:net", {}, "there is no module 'no_such_module' in the folder where you work"),
        ("mynets.py", {}, "must be 'package.module:function', not 'mynets.py'"),
        ("../mynets:net", {}, "must be 'package.module:function'"),
    ],
)
def test_what_a_builder_lacks_is_said(path: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text) as caught:
        run_builder(path, options=options, **SIZES)
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 500


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def net(:\n", "SyntaxError"), ("import no_such_package_either\n", "ModuleNotFoundError"),
        ("raise SystemExit('bye')\n", "SystemExit: bye"),
        ("1 / 0\n", r"ZeroDivisionError: division by zero \(faulty_net.py, line 1\)"),
    ],
)  # fmt: skip
def test_modules_that_cannot_be_imported(text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "faulty_net.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    with pytest.raises(InputError, match=said):
        run_builder("faulty_net:net", options={}, **SIZES)
    assert sys.path == before and "faulty_net" not in sys.modules


def local() -> type[nn.Module]:
    class Inside(nn.Module): ...

    return Inside


def test_a_builder_is_named_by_itself_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert builder_path(one) == f"{HERE}:one" and builder_path(Net) == f"{HERE}:Net" and builder_path("import:a.b:c") == "a.b:c"
    with pytest.raises(InputError, match="stands in another function, which no other process can import: put it into a file"):
        builder_path(local())
    with pytest.raises(ArgumentTypeError, match=r"builder is 'package.module:function'"):
        builder_path(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"notebook .* put it into a file, mynets.py say.*builder='mynets:one'"):
        builder_path("__main__:one")
    assert all(builder_fault(path) for path in ("", "a", "a:", ":b", "a.:b", "a b:c", "a:b\x1b[2J", "a:b" * 100, "a:1b"))


# -- folders from which nothing comes --------------------------------------------------------------------------------------

PLANTED = (
    "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"
    "from torch import nn\ndef build():\n    return nn.Identity()\n"
)


def plant(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("planted_net.py", "planted_part.py"):
        (folder / name).write_text(PLANTED)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Any:
    yield plant(tmp_path / "work" / "model")
    for name in [name for name in sys.modules if "planted" in name or name.partition(".")[0] in ("model", "linked")]:
        del sys.modules[name]


@pytest.mark.parametrize("how", ["working folder", "first on the path", "beside", "link", "as a part", "namespace"])
def test_a_folder_that_is_avoided_brings_no_code(how: str, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, path = model.parent, "planted_net:build"
    monkeypatch.chdir(model if how == "working folder" else work)
    monkeypatch.setattr(sys, "path", [str(model), *sys.path] if how in ("first on the path", "as a part") else list(sys.path))
    if how == "beside":
        path = "model.planted_net:build"
    elif how == "link":
        (work / "linked.py").symlink_to(model / "planted_net.py")
        path = "linked:build"
    elif how == "as a part":
        (work / "planted_whole.py").write_text("import planted_part\ndef build(): ...\n")
        path = "planted_whole:build"
    elif how == "namespace":
        (work / "model" / "inner").mkdir()
        plant(work / "model" / "inner")
        path = "model.inner.planted_net:build"
    with pytest.raises(InputError, match=r"would be imported from the model's own folder .* must not bring code along"):
        run_builder(path, options={}, avoid=[model], **SIZES)
    assert not list(work.rglob("ran"))
    run_builder(path.replace("planted_whole", "planted_net"), options={}, **SIZES)  # the guard alone kept it out
    assert list(work.rglob("ran"))


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("os:system", {"command": "touch {mark}"}), ("subprocess:check_call", {"args": ["touch", "{mark}"]}),
        ("builtins:exec", {}),
        ("torch:load", {"f": "evil.pt", "weights_only": False}), ("torch.hub:load", {"repo_or_dir": "x", "model": "y"}),
        ("innocent_nets:os.system", {"command": "touch {mark}"}), ("pathlib:Path", {}), ("functools:partial", {}),
    ],
)  # fmt: skip
def test_no_function_of_python_or_torch_is_a_builder(
    path: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where code is allowed: what was allowed is somebody's network."""
    monkeypatch.chdir(tmp_path)
    source = "import os\nfrom functools import partial\nfrom torch import nn\n\n\n"
    source += "def good():\n    return nn.Identity()\n\n\nbetter = partial(good)\n"
    (tmp_path / "innocent_nets.py").write_text(source)
    mark = tmp_path / "ran"
    filled = json.loads(json.dumps(options).replace("{mark}", str(mark)))
    try:
        with pytest.raises(InputError, match="builds no network"):
            run_builder(path, num_classes=2, in_channels=6, options=filled)
        assert not mark.exists()
        for good in ("innocent_nets:good", "innocent_nets:better"):
            assert isinstance(run_builder(good, num_classes=2, in_channels=6, options={}), nn.Identity)
    finally:
        sys.modules.pop("innocent_nets", None)
