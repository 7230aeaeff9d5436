"""One dialect of names: what no `__all__` lists has an underscore, and nobody takes it from another module."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.architecture import dialect

SRC = Path(__file__).parents[2] / "src" / "torchbcos"
HONEST = {
    "torchbcos": "",
    "torchbcos.a": "from torchbcos.a.b import f as f\n__all__ = ['f']",
    "torchbcos.a.b": "from torchbcos.a import c\n__all__ = ['f', 'MOST']\nMOST, _few = 3, 1\ndef f(): _g(c.T)\ndef _g(x): ...",
    "torchbcos.a.c": "import math\n__all__ = ['T']\nclass T: ...\nif math.pi: _x = 1",
}


def trees(**changed: str) -> dict[str, ast.Module]:
    """The honest modules, with others in place of some of them."""
    texts = {**HONEST, **{f"torchbcos.{name.replace('_', '.')}": text for name, text in changed.items()}}
    return {name: ast.parse(text) for name, text in texts.items()}


def test_names_say_whether_others_may_use_them() -> None:
    modules = dialect.read(SRC)
    assert len(modules) > 80
    assert dialect.faults(modules) == []


def test_honest_modules_have_no_faults() -> None:
    assert dialect.faults(trees()) == []


@pytest.mark.parametrize(
    ("module", "text", "fault"),
    [
        ("a_c", "__all__ = ['T']\nclass T: ...\nx = 1", "torchbcos.a.c: x has no underscore and is not in __all__"),
        (
            "a_c",
            "__all__ = ['T']\nclass T: ...\nif 1:\n    def x(): ...",
            "torchbcos.a.c: x has no underscore and is not in __all__",
        ),
        ("a_c", "class T: ...", "torchbcos.a.c: T has no underscore and is not in __all__"),
        ("a_c", "__all__ = ['T', 'U']\nclass T: ...", "torchbcos.a.c: __all__ names U, which is not there"),
        ("a_c", "__all__ = ['T', '_U']\nclass T: ...\n_U = 1", "torchbcos.a.c: __all__ names _U"),
        ("a_c", "__all__ = []", "torchbcos.a.b takes T from torchbcos.a.c, whose __all__ lacks it"),
        ("a", "from torchbcos.a.b import _g", "torchbcos.a takes _g from torchbcos.a.b, whose __all__ lacks it"),
        ("a", "def f():\n    from torchbcos.a.b import _g", "torchbcos.a takes _g from torchbcos.a.b, whose __all__ lacks it"),
        ("a", "import torchbcos.a.b\ntorchbcos.a.b._g()", "torchbcos.a takes _g from torchbcos.a.b, whose __all__ lacks it"),
    ],
)
def test_faults_are_seen(module: str, text: str, fault: str) -> None:
    assert fault in dialect.faults(trees(**{module: text}))


def test_users_are_found_wherever_they_stand() -> None:
    modules = trees(a_c="A = B = C = D = E = F = G = H = 1\nclass T: ...")
    code = [
        "from torchbcos.a.c import A",
        "from torchbcos.a import c\nc.B\npatch.setattr(c, 'C', 2)\nfor m in [c]: m.H",
        "it = importlib.import_module('torchbcos.a.c')\nit.F\npatch.setattr(it, 'G', 1)",
        "run('from torchbcos.a.c import D')\npatch.setattr('torchbcos.a.c.E', 1)",
    ]
    used = dialect.used_elsewhere(modules, code, ["`torchbcos.a.f` is public"])
    assert {name for module, name in used if module == "torchbcos.a.c"} == {"A", "B", "C", "D", "E", "F", "G", "H", "T"}
    assert ("torchbcos.a.b", "f") in used and ("torchbcos.a.b", "_g") not in used
