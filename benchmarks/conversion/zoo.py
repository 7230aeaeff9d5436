"""What `bcosify` makes of many architectures, a line each. `make convert-zoo`, or from the folder of the project:

    python -m benchmarks.conversion.zoo --json zoo.json                 # all of them; a row that stands is left alone
    python -m benchmarks.conversion.zoo --names starnet torchvision:vit # those whose name has one of these words
    python -m benchmarks.conversion.zoo --first --json zoo.json         # the ten that catch most faults

Each has random weights in which everything counts (see tests/any/calibrate.py): norms take their statistics from a batch, biases,
tokens, gains and layer scales are drawn. It is converted twice, in float64:

- B = 1, biases kept: "same" is the largest difference of logits in units of their range, at most 1e-12, and 1e-4 for networks
  that cast to float32 inside; "adds up" is |logit - contributions - constants| in units of the largest logit. Deep random
  networks enlarge rounding: where "same" is more, "last bit" is what changed last bits of the picture do to the given network,
  and up to four times as much counts as the same;
- B = 1, norm biases, calibrated: which kinds of constants are left: positions and tokens are allowed, nothing else.

What bcosify refuses is named with its sentence: a refusal is no fault, a wrong conversion is, and so is any other error. The exit
code is 1 where there is one.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import math
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import torchbcos
from tests.any.calibrate import calibrate
from tests.any.networks import ARCHITECTURES, CLASSES, Entry, build, entry
from torchbcos._core.errors import BcosError
from torchbcos.conversion import Report
from torchbcos.conversion.checking import kind_of
from torchbcos.conversion.planning import LAYERS
from torchbcos.conversion.recording import record, tensor_in
from torchbcos.deployment.settle import copy_of
from torchbcos.functional import add_inverse
from torchbcos.nn.bcosified import Biased

__all__ = ["LIMITS", "NAMES", "Row", "row_of"]

# beyond the architectures of `make any`: the same families from other libraries, auxiliary heads, pools with attention
_MORE = """
torchvision:vit_b_16 64 image_size=64
torchvision:googlenet 64 aux_logits=True
torchvision:inception_v3 96 aux_logits=True
torchvision:mobilenet_v3_large 64
torchvision:regnet_y_800mf 64
torchvision:densenet169 64
torchvision:swin_s 64
timm:resnet50_clip 64 img_size=64
timm:convnextv2_femto 64
timm:efficientvit_b1 64
timm:starnet_s1 64
timm:eva02_small_patch14_224 56 img_size=56
timm:maxvit_nano_rw_256 64 img_size=64
timm:beitv2_base_patch16_224 64 img_size=64 depth=4
open_clip:RN50 64
open_clip:ViT-B-32 64
open_clip:convnext_base 64
open_clip:coca_ViT-B-32 64
open_clip:ViT-B-16-SigLIP 64
"""
_FIRST = (
    "timm:dm_nfnet_f0", "torchvision:maxvit_t", "timm:eva02_tiny_patch14_224", "torchvision:swin_v2_t", "timm:resnet50_clip",
    "timm:efficientvit_b0", "timm:starnet_s050", "timm:convnextv2_atto", "timm:deit_tiny_distilled_patch16_224",
    "timm:vit_base_patch16_siglip_224",
)  # fmt: skip
_OURS = [entry(line) for line in _MORE.strip().splitlines()]
_TITLES = {one.title for one in _OURS}
NAMES = [*(one for one in ARCHITECTURES if one.title not in _TITLES), *_OURS]
LIMITS = {"float64": (1e-12, 1e-10), "float32 inside": (1e-4, 1e-4)}  # of "same" and "adds up"
_ALLOWED = {"position", "token"}
_OF_THE_INPUT = ("stem_dct.",)  # csatv2 changes colours before its first layer: what it adds there belongs to the input
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BATCH = 4


@dataclasses.dataclass(frozen=True)
class Row:
    """What was found for one network.

    Attributes:
        verdict: "exact", "refused", "wrong" or "failed".
        note: what is refused or wrong; the sentence.
        precision: a key of `LIMITS`.
        same, adds_up: of B = 1 with biases kept.
        last_bit: in units of `same`, what changed last bits of the picture do to the given network; NaN where nobody asked.
        kinds: constants that are kept there, by kind, their parts of all magnitudes.
        left: the same with norm biases.
        names: of the constants that are left with norm biases.
        adds_up_norm: "adds up" of that conversion.
        layers: convolutions and linear layers that became ours.
        stayed: the others that ran: they make gates.
        plain: names of those among them that carry the signal, and should not have stayed.
        never_ran, elsewhere, zeroed: how many; see `torchbcos.conversion.Report`.
    """

    name: str
    size: int
    verdict: str
    note: str = ""
    precision: str = "float64"
    same: float = math.nan
    adds_up: float = math.nan
    last_bit: float = math.nan
    kinds: dict[str, float] = dataclasses.field(default_factory=dict)
    left: dict[str, float] = dataclasses.field(default_factory=dict)
    names: list[str] = dataclasses.field(default_factory=list)
    adds_up_norm: float = math.nan
    layers: int = 0
    stayed: int = 0
    plain: list[str] = dataclasses.field(default_factory=list)
    never_ran: int = 0
    elsewhere: int = 0
    zeroed: int = 0
    seconds: float = math.nan


class _Narrow(TorchFunctionMode):
    """Sees whether a network in float64 computes in float32 somewhere."""

    seen = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        value = func(*args, **(kwargs or {}))
        wide = any(isinstance(t, Tensor) and t.dtype is torch.float64 for t in args)
        self.seen |= wide and isinstance(value, Tensor) and value.dtype is torch.float32
        return value


def built(one: Entry) -> nn.Module:
    """The network with its library's random weights.

    Raises:
        ImportError: the library is not installed.
    """
    if one.source == "open_clip":
        made: nn.Module = importlib.import_module("open_clip").create_model(one.name, force_image_size=one.size).visual
        if getattr(made, "output_tokens", False):  # CoCa's gives its tokens as well, for a decoder of text
            made.output_tokens = False  # type: ignore[assignment]
        return made.eval()
    if one.options.get("aux_logits"):
        model: nn.Module = importlib.import_module("torchvision").models.get_model(
            one.name, weights=None, num_classes=CLASSES, init_weights=False, **one.options
        )
        return model.eval()
    return build(one)


def photos(size: int, count: int, seed: int = 1) -> Tensor:
    """(count, 3, size, size) in [0, 1]: smooth noise of several scales."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.zeros(count, 3, size, size)
    for cells in (2, 5, 11, size):
        grid = torch.rand(count, 3, cells, cells, generator=generator)
        x += nn.functional.interpolate(grid, size=(size, size), mode="bilinear", align_corners=False) / 4
    return (x - 0.5).mul_(1.6).add_(0.5).clamp_(0, 1)


def row_of(one: Entry) -> Row:
    """Build, calibrate and convert one architecture.

    Raises:
        ImportError: its library is not installed.
    """
    begun = time.perf_counter()
    try:
        torch.manual_seed(0)
        model = built(one)
        calibrate(model, one.size, one.output)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        return Row(one.title, one.size, "failed", _short(error))
    try:
        row = _converted(one, model.double(), photos(one.size, _BATCH).double())
    except BcosError as error:
        row = Row(one.title, one.size, "refused", _short(error))
    except Exception as error:  # none of ours, which no user may meet
        row = Row(one.title, one.size, "wrong", _short(error))
    return dataclasses.replace(row, seconds=round(time.perf_counter() - begun, 1))


def _converted(one: Entry, model: nn.Module, x: Tensor) -> Row:
    with torch.no_grad(), _Narrow() as narrow:
        model((x[:1] - 0.45) / 0.225)
    precision = "float32 inside" if narrow.seen else "float64"
    options: dict[str, Any] = {"b": 1, "mean": _MEAN, "std": _STD, "output": one.output}
    _, kept, adds_up = _once(model, x[:2], options | {"biases": "keep"})
    new, normed, adds_up_norm = _once(model, x, options | {"biases": "norm"})
    ours = sum(isinstance(m, Biased) for m in new.modules())
    given = {path for path, m in new.named_modules() if isinstance(m, LAYERS) and not isinstance(m, Biased)}
    stayed = len(given) - len(normed.never_ran)
    runs = record(copy_of(model), (x[:1] - 0.45) / 0.225, one.output).runs
    given |= {path.removeprefix("network.") for path in given}
    plain = sorted(path for path, run in runs.items() if run.signal and path in given)
    same, unit = LIMITS[precision]
    last_bit = math.nan if kept.kept <= same or narrow.seen else _last_bit(model, x[:2], one.output)
    faults = [f"the function changed by {kept.kept:.1e}"] if not (kept.kept <= same or kept.kept <= 4 * last_bit) else []
    faults += [f"does not add up, by {r:.1e}" for r in (adds_up, adds_up_norm) if not r <= unit]
    names = [name.removeprefix("network.") for name in normed.constants]
    bad = [name for name in names if kind_of(name) not in _ALLOWED and not name.startswith(_OF_THE_INPUT)]
    faults += [f"constants are left with norm biases: {', '.join(bad[:4])}"] if bad else []
    return Row(
        one.title, one.size, "wrong" if faults else "exact", "; ".join(faults), precision, kept.kept, adds_up, last_bit,
        _rounded(kept.kinds), _rounded(normed.kinds), list(normed.constants), adds_up_norm, ours, stayed, plain,
        len(normed.never_ran), len(normed.elsewhere), len(normed.zeroed),
    )  # fmt: skip


@torch.no_grad()
def _last_bit(model: nn.Module, pixels: Tensor, output: str | None) -> float:
    """How far a network's logits move, in units of their range, where its input's last bits change; the most of three draws.

    Each number goes up or down by one unit in its last place, as rounding another sum would move it.
    """
    shape, found = (3, 1, 1), 0.0
    x = (pixels - pixels.new_tensor(_MEAN).view(shape)) / pixels.new_tensor(_STD).view(shape)
    y = tensor_in(model(x), output)
    for seed in range(3):
        up = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < 0.5
        moved = tensor_in(model(torch.nextafter(x, torch.where(up, math.inf, -math.inf).to(x))), output)
        assert y is not None and moved is not None
        found = max(found, float((moved - y).abs().max() / (y.max() - y.min())))
    return found


def _once(model: nn.Module, x: Tensor, options: dict[str, Any]) -> tuple[nn.Module, Report, float]:
    """A conversion, its report, and its residual in units of the largest logit."""
    new, report = torchbcos.bcosify(model, example=x, **options)
    with torch.no_grad():
        y = new(add_inverse(x))
    logits = y if options["output"] is None else getattr(y, options["output"])
    return new, report, report.residual / float(logits.abs().max().clamp_min(1e-30))


def _rounded(kinds: dict[str, float]) -> dict[str, float]:
    return {kind: round(share, 4) for kind, share in sorted(kinds.items(), key=lambda item: -item[1])}


def _short(error: Exception) -> str:
    return (str(error) if isinstance(error, BcosError) else f"{type(error).__name__}: {error}").replace("\n", " ")[:500]


def shown(row: Row) -> str:
    """One architecture, for a screen."""
    if row.verdict in ("refused", "failed") or math.isnan(row.same):
        return f"{row.name:45} {row.verdict}: {row.note}  {row.seconds:.0f} s"
    kept, left = (" ".join(f"{k} {v:.1%}" for k, v in kinds.items()) or "none" for kinds in (row.kinds, row.left))
    more = f"  {row.precision}" if row.precision != "float64" else ""
    counts = ((row.zeroed, "zeroed"), (row.elsewhere, "elsewhere"), (row.never_ran, "never ran"))
    more += "".join(f"  {n} {word}" for n, word in counts if n)
    more += f"  last bit {row.last_bit:.0e}" if row.last_bit == row.last_bit else ""
    more += f"  plain: {', '.join(row.plain[:3])}" if row.plain else ""
    note = f"  {row.note}" if row.note else ""
    return (
        f"{row.name:45} {row.verdict}  same {row.same:.0e}  adds up {row.adds_up:.0e}  kept: {kept}  norm: {left}  "
        f"{row.layers} layers, {row.stayed} as they were{more}  {row.seconds:.0f} s{note}"
    )


def chosen(words: Sequence[str], first: bool) -> list[Entry]:
    """The architectures that a command line asks for, those that catch most faults first.

    Raises:
        SystemExit: a word fits nothing.
    """
    unknown = [word for word in words if not any(word in one.title for one in NAMES)]
    if unknown:
        raise SystemExit(f"No architecture has {unknown[0]!r} in its name.")
    order = sorted(NAMES, key=lambda one: _FIRST.index(one.title) if one.title in _FIRST else len(_FIRST))
    order = order[: len(_FIRST)] if first else order
    return [one for one in order if not words or any(word in one.title for word in words)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", default=[], metavar="WORD", help="words of names; all without any")
    parser.add_argument("--first", action="store_true", help="the ten that catch most faults")
    parser.add_argument("--json", type=Path, metavar="FILE", help="rows go here one by one; those that stand are kept")
    parser.add_argument("--again", action="store_true", help="rows that stand and are not exact are measured again")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    stands = json.loads(args.json.read_text("utf-8")) if args.json and args.json.is_file() else {}
    rows: list[Row] = []
    missing: set[str] = set()
    for one in chosen(args.names, args.first):
        old = stands.get(one.title)
        if old is not None and not (args.again and old["verdict"] != "exact"):
            rows.append(Row(**old))
            continue
        if one.source in missing:
            continue
        try:
            rows.append(row_of(one))
        except ImportError as error:
            missing.add(one.source)
            print(f"{one.source} is left out: {error}", flush=True)
            continue
        print(shown(rows[-1]), flush=True)
        stands[one.title] = dataclasses.asdict(rows[-1])
        if args.json:
            args.json.write_text(json.dumps(stands, indent=1) + "\n", "utf-8")
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in ("exact", "refused", "wrong", "failed")}
    print(f"{len(rows)} architectures: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n))
    return int(any(row.verdict in ("wrong", "failed") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
