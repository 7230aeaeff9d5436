"""All trainings behind docs/explanation/claims.md, as data, in order of worth: what is cheap and says most comes first."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["RUNS", "Run", "model_of", "run"]

CIFAR, NETTE = "cifar10", "imagenette"  # folders of --data
_BCOS, _PLAIN = "cifar10_resnet20-bnu-nobias-nomaxout", "cifar10_resnet20-plain"
# the recipe of the embedded network at half its side: every network gets the same
_SMALL = {"image_size": 64, "grow_from": 0, "test_size": 64, "ema_decay": 0.99, "options": "{}", "epochs": 12}


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        name: of its folder.
        data: folder of the data.
        recipe: that it begins with, as `torchbcos train` takes it.
        settings: what is changed, besides `MACHINE`.
        claims: letters of the claims that need it.
        minutes: of one core of the machine of record, about.
    """

    name: str
    data: str
    recipe: str
    claims: str
    minutes: int
    settings: dict[str, Any] = field(default_factory=dict)


# float32, since bfloat16 is ten times slower without units for it; one process that reads pictures itself
MACHINE: dict[str, Any] = {"workers": 0, "precision": 32, "compile": "true"}


def _cifar(name: str, claims: str, minutes: int = 20, *, recipe: str = _BCOS, **settings: Any) -> Run:
    named = {("options." + key if key in ("b", "antialias", "max_out") else key): value for key, value in settings.items()}
    return Run(name, CIFAR, recipe, claims, minutes, {"epochs": 5, **named})


def _nette(name: str, model: str, claims: str, minutes: int, *, plain: bool = False, width: float = 0, **settings: Any) -> Run:
    options = {"options": f"{{width_factor={width}}}" if width else "{}"}
    twin = {"plain": "true"} if plain else {}
    return Run(name, NETTE, "imagenette", claims, minutes, {**_SMALL, "model": model, **options, **twin, **settings})


RUNS: tuple[Run, ...] = (
    _cifar("cifar-b2", "cdegi", b=2),
    _cifar("cifar-antialias", "g", antialias="true"),
    _cifar("cifar-bn", "d", recipe="cifar10_resnet20-bn-nomaxout"),
    _cifar("cifar-b1.25", "c", b=1.25),
    _nette("nette64-vitc", "vitc_ti_patch1_14", "hi", 15),
    _nette("nette64-vitc-plain", "vitc_ti_patch1_14", "hi", 11, plain=True),
    _nette("nette64-resnet", "resnet18", "i", 9, width=0.5),
    _nette("nette64-resnet-plain", "resnet18", "i", 6, plain=True, width=0.5),
    _cifar("cifar-plain", "i", 15, recipe=_PLAIN),
    _cifar("cifar-b2.5", "c", b=2.5),
    _cifar("cifar-b1.5", "c", b=1.5),
    _cifar("cifar-bn-nobias", "d", recipe="cifar10_resnet20-bn-nobias-nomaxout"),
    _cifar("cifar-bnu", "d", recipe="cifar10_resnet20-bnu-nomaxout"),
    _nette("nette64-vgg", "vgg11_bnu", "i", 14, width=0.25),
    _nette("nette64-vgg-plain", "vgg11_bnu", "i", 9, plain=True, width=0.25),
    _nette("nette64-convnext", "convnext_tiny_bnu", "i", 12, width=0.25),
    _nette("nette64-convnext-plain", "convnext_tiny_bnu", "i", 8, plain=True, width=0.25),
    _nette("nette64-densenet", "densenet121", "i", 15, width=0.25),
    _nette("nette64-densenet-plain", "densenet121", "i", 8, plain=True, width=0.25),
    *(
        _nette(f"nette64-resnet{twin}-s{seed}", "resnet18", "i", 6 if twin else 9, width=0.5, plain=bool(twin), seed=seed)
        for seed in (1, 2)
        for twin in ("", "-plain")
    ),
    # the gap of three points after twelve epochs at 128 px, cheaper: 64 pixels and half the width, 12 epochs (above) against 48
    _nette("nette64-resnet-48", "resnet18", "i", 35, width=0.5, epochs=48),
    _nette("nette64-resnet-plain-48", "resnet18", "i", 25, plain=True, width=0.5, epochs=48),
    _cifar("cifar-b1", "c", b=1),  # linear; B = 1 with MaxOut, as published, takes more than twice as long and is left out
)


def run(name: str) -> Run:
    """The run of this name."""
    return next(one for one in RUNS if one.name == name)


def model_of(runs: Path, name: str) -> Path | None:
    """The folder of a run's model; None where the run has not ended, and there are no kept weights of it either."""
    kept = Path(__file__).parent / "weights" / name
    places = [runs / name / "model"] if (runs / name / "report.json").is_file() else []
    return next((place for place in (*places, kept) if (place / "card.json").is_file()), None)
