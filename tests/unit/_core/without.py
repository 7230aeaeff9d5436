"""The laws on a torch that lacks one private name, or has it with other arguments: run as a program, one JSON line a case.

`_core/torch_private.py` looks all of them up with `getattr`. The library is imported anew for every case, and that file with a
`getattr` of its own, which does not find the name. torch itself stays whole: it needs most of these names.
"""

from __future__ import annotations

import builtins
import copy
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

CENTRE = "torchbcos._core.torch_private"
FAMILIES = ("resnet", "resnext", "densenet", "vgg", "convnext", "vit")
Getattr = Callable[..., Any]


def reload(found: Getattr) -> ModuleType:
    """The library anew, with `found` in place of getattr where private names are looked up."""
    for name in [n for n in sys.modules if n.partition(".")[0] in ("torchbcos", "tests")]:
        del sys.modules[name]
    import torchbcos._core

    spec = importlib.util.find_spec(CENTRE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.__dict__["getattr"] = found
    sys.modules[CENTRE] = torchbcos._core.torch_private = module  # type: ignore[attr-defined]
    spec.loader.exec_module(module)
    return module


def lacking(missing: str) -> Getattr:
    """A getattr that does not find `missing`."""

    def found(thing: object, name: str, *default: object) -> Any:
        if name == missing:
            return default[0]
        return builtins.getattr(thing, name, *default)

    return found


def refuse(*arguments: object, **options: object) -> None:
    """An operation whose arguments are others now."""
    raise TypeError("takes other arguments")


def exchanging(name: str, instead: Callable[..., Any]) -> Getattr:
    """A getattr that finds `instead` under `name`."""
    return lambda thing, wanted, *default: instead if wanted == name else builtins.getattr(thing, wanted, *default)


def transposing(
    x: Tensor, packed: Tensor, bias: object, padding: object, stride: object, dilation: object, *rest: object
) -> Tensor:
    """oneDNN's convolution with stride and dilation exchanged: other numbers of the same shape, no error."""
    found: Tensor = torch.ops.mkldnn._convolution_pointwise(x, packed, bias, padding, stride, dilation, *rest)
    return found.flip(1)


def near(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    """Raise where two tensors differ by more than `tolerance` of the largest entry."""
    apart = float((found - wanted).abs().max() / wanted.abs().max())
    assert apart <= tolerance, f"{apart:.1e} apart"


class Laws:
    """What holds on every torch. The first run, with all names, says which numbers are right."""

    def __init__(self) -> None:
        self.right: dict[str, Tensor] = {}
        self.refused, self.remembers = "", False

    def same(self, name: str, value: Tensor, tolerance: float = 1e-9) -> None:
        """The value that the whole torch gave."""
        near(value.detach(), self.right.setdefault(name, value.detach().clone()), tolerance)

    def families(self) -> None:
        """Explanations are exact, and the same, for a small network of each family."""
        import torchbcos
        from tests.laws import test_networks

        for family in FAMILIES:
            model, side = test_networks.make(family, 0, 2.0, 1), test_networks.FAMILIES[family][5]
            e = torchbcos.explain(model, torch.rand(2, 6, side, side, dtype=torch.float64), 1)
            assert float(e.residual.abs().max()) < 1e-9 * float(e.values.abs().max())
            self.same(f"W of {family}", e.weights)
            truncated = torchbcos.explain(model, e.inputs, 1, create_graph="truncated")
            self.same(f"W of {family}", truncated.weights)

    def training(self) -> None:
        """A training step has the plain gradients, written out and under checkpoints."""
        from torchbcos import nn as bnn

        model = nn.Sequential(
            bnn.BcosConv2d(6, 8, 3, padding=1), bnn.BatchNorm(8, centered=False, bias=False), bnn.BcosConv2d(8, 8, 3, groups=2),
            bnn.BatchNorm(8), bnn.GlobalAveragePool(), bnn.BcosLinear(8, 3),
        ).double()  # fmt: skip
        x = torch.rand(4, 6, 8, 8, dtype=torch.float64, requires_grad=True)
        for way in (model, lambda x: checkpoint(model, x, use_reentrant=False)):
            found = torch.autograd.grad(way(x).square().sum(), [x, *model.parameters()])
            for k, gradient in enumerate(found):
                self.same(f"gradient {k}", gradient)
        leaf = x[:1].detach().requires_grad_()
        twice = torch.autograd.grad(model(leaf.expand(4, -1, -1, -1) * x).sum(), leaf, create_graph=True)[0]
        self.same("second derivative", torch.autograd.grad(twice.square().sum(), leaf)[0])
        self.same("vmap", torch.func.vmap(lambda row: model[0](row[None]))(x))

    def memory(self) -> None:
        """Packed filters are those of the weight as it is now."""
        import torchbcos
        from torchbcos import nn as bnn

        conv = bnn.BcosConv2d(192, 192, 1).eval().requires_grad_(False).to(memory_format=torch.channels_last)
        model = nn.Sequential(bnn.BcosConv2d(6, 192, 3), conv, bnn.GlobalAveragePool()).eval()
        x = torch.rand(1, 6, 8, 8).contiguous(memory_format=torch.channels_last)
        for turn in range(3):
            with torch.no_grad():
                self.same(f"output {turn}", model(x), 1e-5)
                self.same(f"output {turn}", model(x), 1e-5)
            e = torchbcos.explain(model, x, 3)
            self.same(f"W after change {turn}", e.weights, 1e-4)
            self.remembers = conv.__dict__["_packed"].ahead.kept is not None
            conv.weight.copy_(torch.randn_like(conv.weight))

    def checkpoints(self) -> None:
        """A checkpointed network is explained as it is without checkpoints, or refused; `frozen` refuses always."""
        import torchbcos
        from torchbcos import nn as bnn

        first, last = bnn.BcosConv2d(6, 4, 3), nn.Sequential(bnn.BcosConv2d(4, 4, 3), bnn.GlobalAveragePool())

        class Recomputed(nn.Module):
            def __init__(self, reentrant: bool) -> None:
                super().__init__()
                self.first, self.last, self.reentrant = first, last, reentrant

            def forward(self, x: Tensor) -> Tensor:
                out: Tensor = checkpoint(self.last, self.first(x), use_reentrant=self.reentrant)
                return out

        x = torch.rand(2, 6, 8, 8)
        self.same("W with checkpoints", torchbcos.explain(nn.Sequential(first, last), x, 1).weights, 1e-5)
        try:
            weights = torchbcos.explain(Recomputed(False), x, 1).weights
        except torchbcos.BcosError as error:
            self.refused = str(error)
        else:
            self.same("W with checkpoints", weights, 1e-5)
        for reentrant in (False, True):
            try:
                with torchbcos.frozen():
                    Recomputed(reentrant)(x.clone().requires_grad_())
            except torchbcos.BcosError as error:
                assert "torch.utils.checkpoint inside" in str(error)
            else:
                raise AssertionError("frozen() around a checkpoint is not refused")

    def surroundings(self) -> None:
        """`testing` passes a right layer, and what an explanation leaves is as before."""
        from torchbcos import nn as bnn
        from torchbcos import testing

        layer, x = bnn.BcosConv2d(6, 4, 3), torch.rand(2, 6, 8, 8)
        testing.check_layer(layer, x)

    def compiled(self) -> None:
        """Compiled as a whole, a network is explained as it is uncompiled; compiled in part, so or refused."""
        import torchbcos
        from torchbcos import nn as bnn

        torch.compiler.reset()
        x = torch.rand(2, 6, 8, 8)
        conv, norm, pool = bnn.BcosConv2d(6, 4, 3), bnn.BatchNorm(4), bnn.GlobalAveragePool()
        norm.running_mean.fill_(0.3)
        model = nn.Sequential(conv, norm, pool).eval()
        self.same("W uncompiled", torchbcos.explain(model, x, 1).weights, 1e-5)
        part = nn.Sequential(conv, torch.compile(norm, backend="eager"), pool).eval()
        in_place = copy.deepcopy(model)
        in_place.compile(backend="eager")
        for network in (torch.compile(model, backend="eager"), part, in_place):
            network(x)
            try:
                e = torchbcos.explain(network, x, 1)
            except torchbcos.BcosError as error:
                assert network is part, error
            else:
                self.same("W uncompiled", e.weights, 1e-5)
                assert float(e.residual.abs().max()) < 1e-5, "constants are missing"

    def graph(self) -> None:
        """A recorded explanation gives the numbers of `explain`, or recording is refused."""
        import torchbcos
        from torchbcos import nn as bnn

        model = nn.Sequential(bnn.BcosConv2d(6, 4, 3), nn.AvgPool2d(2), bnn.GlobalAveragePool()).eval()
        x = torch.rand(1, 6, 8, 8)
        for portable in (False, True):
            try:
                recorded = torchbcos.explanation_graph(model, x, portable=portable)
            except torchbcos.BcosError as error:
                self.refused = str(error)
            else:
                self.same("recorded W", recorded(x)[2], 1e-4)

    def run(self, slow: tuple[str, ...]) -> dict[str, str]:
        """Every law: "" where it holds, else what went wrong; "refused" where a law allows that and it happened."""
        found = {}
        for law in ("families", "training", "memory", "checkpoints", "surroundings", *slow):
            torch.manual_seed(0)
            self.refused = ""
            try:
                getattr(self, law)()
            except Exception as error:
                found[law] = f"{type(error).__name__}: {error}"
            else:
                found[law] = f"refused: {self.refused}" if self.refused else ""
        return found


# older compilers remember modules by name and stumble over a library that is imported twice
if tuple(int(v) for v in torch.__version__.split(".")[:2]) < (2, 14):
    Laws.compiled = lambda self: None  # type: ignore[method-assign]

SLOW: dict[str, tuple[str, ...]] = {
    "_orig_mod": ("compiled",), "_compiled_call_impl": ("compiled",), "_call_impl": ("compiled",), "": ("compiled", "graph"),
    "make_fx": ("graph",), "convolution_backward": ("graph",), "avg_pool2d_backward": ("graph",),
    "tracing": ("graph",), "TracingContext!": ("graph",),
}  # fmt: skip


def main() -> None:
    """Each argument is a case: "", "NAME" (gone), "NAME!" (takes other arguments), "NAME?" (gives other numbers)."""
    asked: set[str] = set()

    def recording(thing: object, name: str, *default: object) -> Any:
        asked.add(name)
        return builtins.getattr(thing, name, *default)

    laws = Laws()
    for case in ["", *sys.argv[1:]]:
        start, name = time.perf_counter(), case.rstrip("!?")
        ways = {"": lacking(name) if case else recording, "!": exchanging(name, refuse), "?": exchanging(name, transposing)}
        centre = reload(ways[case[len(name) :]])
        found: dict[str, Any] = laws.run(SLOW.get(name, ()))
        found |= {"packs": bool(centre.packing.works), "remembers": laws.remembers}
        found["seconds"] = round(time.perf_counter() - start, 1)
        print(json.dumps({"case": case, **found}), flush=True)
    print(json.dumps({"asked": sorted(asked)}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
