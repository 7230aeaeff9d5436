"""Private names of torch stand in one file: what a new release moves is mended there and nowhere else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.autograd.function import Function

SRC = Path(__file__).parents[2] / "src" / "torchbcos"
HOME = SRC / "_core" / "torch_private.py"

# public by their spelling, promised by nobody
EXPERIMENTAL = ("torch.fx.experimental", "torch.ops")
# private classes and attributes that no instance below shows, and names by which others recognise them
KNOWN = {
    "_C",
    "_backward_cls",
    "_forward_cls",
    "_orig_mod",
    "_call_impl",
    "_compiled_call_impl",
    "OptimizedModule",
    "_checkpoint_hook",
}
KNOWN |= {"_version", "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_parameters", "_buffers", "_modules"}


def of_instances() -> set[str]:
    """The private attributes of torch's own objects, as this release has them."""
    weight = nn.Parameter(torch.ones(1))
    objects: list[object] = [
        weight, nn.Module(), Function, (weight * 2).grad_fn, torch.optim.SGD([weight]), torch.utils.data.DataLoader([0]),
        torch.fx.GraphModule(nn.Module(), torch.fx.Graph()), torch.Generator(), torch.device("cpu"), torch.ops,
    ]  # fmt: skip
    names = {name for thing in objects for name in (*dir(type(thing)), *dir(thing))}
    return {name for name in names if name.startswith("_") and not name.startswith("__")} - set(dir(object))


PRIVATE = KNOWN | of_instances()
SPELLED = re.compile(r"torch(\.\w+)*\._(?!_)\w+(\.\w+)*")


def is_private(path: str) -> bool:
    """True for a dotted name below torch that torch does not promise."""
    below = path.partition(".")[2].split(".")
    hidden = any(part.startswith("_") and not part.startswith("__") for part in below)
    return hidden or any(path == name or path.startswith(name + ".") for name in EXPERIMENTAL)


def aliases(tree: ast.AST) -> tuple[dict[str, str], list[tuple[int, str]]]:
    """What torch's names are called in a file, and the private ones among those imported."""
    names, found = {}, []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "torch":
                    names[alias.asname or "torch"] = alias.name if alias.asname else "torch"
                    found += [(node.lineno, alias.name)] if is_private(alias.name) else []
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "torch" and not node.level:
            for alias in node.names:
                path = f"{node.module}.{alias.name}"
                names[alias.asname or alias.name] = path
                found += [(node.lineno, path)] if is_private(path) else []
    return names, found


def chain(node: ast.expr) -> tuple[ast.expr, list[str]]:
    """What an attribute chain begins with, and its attributes from there on."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return node, parts


def attributes(tree: ast.AST, names: dict[str, str]) -> Iterator[tuple[int, str]]:
    """Private attributes: below torch, and of anything that torch made."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            start, parts = chain(node)
            known = isinstance(start, ast.Name) and start.id in names
            path = ".".join([names[start.id], *parts]) if known and isinstance(start, ast.Name) else ""
            if (path and is_private(path)) or node.attr in PRIVATE:
                yield node.lineno, path or node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # getattr, vars()[...], import_module, class names
            text = node.value
            if text in PRIVATE or SPELLED.fullmatch(text) or text.startswith("torch.fx.experimental"):
                yield node.lineno, text


def private_names(source: str) -> list[str]:
    """Every use of a private name of torch, by line."""
    tree = ast.parse(source)
    names, found = aliases(tree)
    return [f"line {line}: {name}" for line, name in sorted({*found, *attributes(tree, names)})]


@pytest.mark.parametrize("path", sorted(set(SRC.rglob("*.py")) - {HOME}), ids=lambda path: str(path.relative_to(SRC)))
def test_private_torch_is_named_in_one_file(path: Path) -> None:
    assert private_names(path.read_text("utf-8")) == []


def test_that_file_names_it() -> None:
    assert len(private_names(HOME.read_text("utf-8"))) > 15


@pytest.mark.parametrize(
    "source",
    [
        "import torch\nprint(torch._C._current_graph_task_id())",
        "import torch._dynamo",
        "import torch as t\nt._ops.OpOverload",
        "from torch import _C",
        "from torch.utils._python_dispatch import TorchDispatchMode",
        "from torch.fx.experimental.proxy_tensor import make_fx",
        "from torch import fx\nfx.experimental.proxy_tensor.make_fx(f)",
        "from torch.nn import functional as F\nF._canonical_mask(x)",
        "import torch.utils.checkpoint as c\nclass A(c._checkpoint_hook): pass",
        "import torch\ndef f(x):\n    return torch.ops.aten.convolution_backward(x)",
        "def f(x):\n    return x._version",
        "def f(m):\n    return m.net.layer1._forward_hooks",
        "class A(M):\n    def f(self):\n        return self._modules",
        "def f(node):\n    return isinstance(node, Step._backward_cls)",
        "model = getattr(model, '_orig_mod', model)",
        "ok = type(m).__name__ == 'OptimizedModule'",
        "ok = '_checkpoint_hook' in hook.__qualname__",
        "vars(m)['_parameters']",
        "import importlib\nimportlib.import_module('torch._dynamo')",
        "def f(y):\n    return y.grad_fn._saved_self",
    ],
)
def test_private_names_are_seen(source: str) -> None:
    assert private_names(source)


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.__version__, torch.nn.Module().__dict__",
        "import torch\ntorch.compiler.is_compiling(), torch.ones(1).mul_(2)",
        "class A(M):\n    def f(self):\n        self._remembered = _helper(self._own)",
        "import lightning._private\nfrom torchbcos._core import frozen\nfrom torchvision import _C_not",
        '"""Speaks of torch._C and of `_version`."""',
    ],
)
def test_public_names_and_our_own_are_not_called_private(source: str) -> None:
    assert private_names(source) == []
