"""The door: its names, what it costs, and what it leaves alone. Each look is at a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import torchbcos
from torchbcos import functional, nn

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]

# Checks outside the repository use these names verbatim: adding is free, renaming is not.
PROMISED = {
    "load", "save", "list_models", "create_model", "deploy", "recalibrate", "explain", "explanation_graph", "frozen",
    "testing", "nn", "functional",
}  # fmt: skip
ALSO = {
    "attribute",
    "align",
    "verify",
    "bcosify",
    "conversion",
    "attribution",
    "metrics",
    "kinds",
    "register_rule",
    "ExplanationWarning",
    "export",
    "data",
    "pictures",
    "BcosError",
    "Card",
    "Classifier",
    "Explanation",
    "Prediction",
    "models",
    "rendering",
    "__version__",
}
LAYERS = {
    "BcosLinear", "BcosConv1d", "BcosConv2d", "BcosConv3d", "AllNorm", "BatchNorm", "InstanceNorm", "LayerNorm",
    "PositionNorm", "GroupNorm", "TokenNorm", "Attention", "SinCosPosition2d", "Logits", "AddInverse",
}  # fmt: skip

EVERY_NAME = "import torchbcos\nfor name in torchbcos.__all__: getattr(torchbcos, name)"
# Everything that importing could change for others
STATE = """
import gc, locale, logging, os, random, signal, sys, threading, warnings
import numpy, torch
def state():
    return {
        "torch": repr([torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads(),
            torch.get_num_interop_threads(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(),
            torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, torch.get_float32_matmul_precision(),
            torch.backends.cudnn.allow_tf32, torch.get_rng_state().sum().item(), torch.hub.get_dir()]),
        "random": hash(random.getstate()), "numpy": hash(numpy.random.get_state()[1].tobytes()),
        "numpy errors": str(numpy.geterr()),
        "warnings": str(warnings.filters), "show warning": str(warnings.showwarning),
        "logging": str([logging.root.level, logging.root.handlers, logging.raiseExceptions]),
        "environment": str(dict(os.environ)), "path": str(sys.path), "folder": os.getcwd(),
        "hooks": str([sys.excepthook, sys.displayhook, sys.gettrace(), sys.getprofile()]),
        "limits": str([sys.getrecursionlimit(), gc.get_threshold()]),
        "locale": str(locale.setlocale(locale.LC_ALL)), "signals": str([signal.getsignal(s) for s in (2, 15)]),
        "threads": str(threading.active_count()),
    }
"""


def run(code: str) -> Any:
    """What a fresh interpreter prints as JSON at the end of `code`."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def brought(code: str) -> set[str]:
    """Packages outside the standard library that `code` loads, whatever site hooks have loaded before."""
    roots = "{m.split('.')[0] for m in sys.modules}"
    found = run(f"import json, sys\nbefore = {roots}\n{code}\nprint(json.dumps(sorted({roots} - before)))")
    return {name for name in found if name not in sys.stdlib_module_names and not name.startswith("_")}


def changed(code: str) -> set[str]:
    """Names of the global state that `code` changes."""
    return set(run(f"{STATE}\nimport json\nbefore = state()\n{code}\nafter = state()\n"
                   "print(json.dumps([k for k in before if before[k] != after[k]]))"))  # fmt: skip


def test_names_are_pinned() -> None:
    assert set(torchbcos.__all__) == PROMISED | ALSO
    assert torchbcos.__all__ == sorted(torchbcos.__all__)
    assert set(torchbcos.__all__) <= set(dir(torchbcos))
    for name in torchbcos.__all__:
        assert getattr(torchbcos, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'explane'"):
        torchbcos.explane  # noqa: B018
    assert set(nn.__all__) >= LAYERS
    assert set(functional.__all__) >= {"bcos_linear", "bcos_conv", "add_inverse", "bcos_transform"}


def test_every_name_is_its_own_and_documented() -> None:
    for name in set(torchbcos.__all__) - {"__version__"}:
        assert (getattr(torchbcos, name).__doc__ or "").strip(), name


def test_importing_costs_nothing() -> None:
    assert brought("import torchbcos") == {"torchbcos"}


def test_the_core_brings_its_six_packages_only() -> None:
    alone = brought("import torch, numpy, PIL.Image, safetensors.torch, typer, rich.console, rich.progress")
    assert brought(EVERY_NAME) - alone <= {"torchbcos", "tomli"}


@pytest.mark.parametrize("command", [[], ["explain"], ["predict"], ["models"]], ids=" ".join)
def test_help_does_not_import_torch(command: list[str]) -> None:
    argv = ["torchbcos", *command, "--help"]
    roots = brought(f"sys.argv = {argv}\nfrom torchbcos.cli.__main__ import main\ntry: main()\nexcept SystemExit: pass")
    assert "torchbcos" in roots and not roots & {"torch", "numpy", "PIL", "safetensors"}


@pytest.mark.newest
def test_importing_changes_no_global_state() -> None:
    assert changed("import torchbcos") == set()
    # rich, when first imported, draws the start of its style numbers from `random`: not ours to test
    assert changed("import rich.style\nbefore = state()\n" + EVERY_NAME) == set()


def test_these_looks_can_see() -> None:
    assert "numpy" in brought("import numpy, torchbcos")
    assert changed("torch.set_default_dtype(torch.float64)\nos.environ['A_NEW_ONE'] = '1'") == {"torch", "environment"}
    assert changed("warnings.simplefilter('ignore')\ntorch.rand(1)\nlogging.basicConfig()") == {"torch", "warnings", "logging"}


def test_the_program_of_the_package_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    module, _, name = project["scripts"]["torchbcos"].partition(":")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv = ['torchbcos', '--help']; from {module} import {name}; {name}()"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "explain" in done.stdout and "predict" in done.stdout
    assert project["version"] == torchbcos.__version__
