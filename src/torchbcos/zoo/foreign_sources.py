"""What `load` takes beside this library's own models: networks of timm and torchvision, of somebody's code, and programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos import models
from torchbcos._core.errors import InputError, WeightsError, shorten
from torchbcos._core.letters import printable
from torchbcos._core.names import quote
from torchbcos._core.pickled import Entry
from torchbcos.pictures import Preprocess
from torchbcos.zoo.archive import WeightsFile, open_weights
from torchbcos.zoo.build import Code
from torchbcos.zoo.card import Card
from torchbcos.zoo.classifier import Classifier
from torchbcos.zoo.describe import UNKNOWN, as_card, card_around, card_of, names_of
from torchbcos.zoo.from_timm import preprocess_of
from torchbcos.zoo.importing import IMPORT, builder_fault, call_builder
from torchbcos.zoo.libraries import build_named, library_of
from torchbcos.zoo.library import Library
from torchbcos.zoo.official import renamed
from torchbcos.zoo.program import Program, open_program
from torchbcos.zoo.store import check_fit, fill

__all__ = ["Wishes", "chosen", "is_foreign", "open_foreign"]

_PROGRAM = ".pt2"
_SAYS_SO = "If you trust who wrote it: load(…, allow_code=True), on the command line --allow-code."


@dataclasses.dataclass(frozen=True)
class Wishes:
    """What a caller of `load` says of a model beside its source.

    Attributes:
        weights: the file of them; None: those that belong to the source.
        preprocess, class_names: instead of those that the source has; None: its own.
    """

    weights: Path | None = None
    preprocess: Preprocess | Mapping[str, Any] | None = None
    class_names: Sequence[str] | None = None


def is_foreign(source: str | Path) -> bool:
    """Whether a source is none of this library's own models.

    >>> is_foreign("timm:resnet18"), is_foreign("mynets.pt2"), is_foreign("resnet18")
    (True, True, False)
    """
    text = str(source)
    named = isinstance(source, str) and (text.startswith(IMPORT) or library_of(text) is not None)
    return named or (text.lower().endswith(_PROGRAM) and not Path(text).is_dir())


def open_foreign(source: str | Path, wishes: Wishes, code: Code, device: torch.device) -> tuple[nn.Module, Card]:
    """The network of such a source, with its weights and in eval mode, and its card.

    Raises:
        InputError: there is no such network; or code would run, and nobody said that it may.
        MissingPackageError: its library is not installed.
        MissingFileError, WeightsError: the weights are missing, broken, or another network's.
    """
    text = str(source)
    if (found := library_of(text)) is not None:
        network, card = _of_library(*found, wishes.weights)
    elif text.startswith(IMPORT):
        network, card = _of_builder(text.removeprefix(IMPORT), wishes, code)
    else:
        network, card = _of_program(Path(source), wishes, code, device)
    return network.eval().to(device), card


# -- timm and torchvision --------------------------------------------------------------------------------------------------


def _of_library(library: Library, name: str, weights: Path | None) -> tuple[nn.Module, Card]:
    """A network of a library, with weights from a file or the library's own."""
    library.check(name)
    facts = library.facts(name, weights)
    file = open_weights(library.fetch(name) if weights is None else weights)
    card = Card(
        name=name, architecture=f"{library.name}:{name}", options=library.options_for(name, file.entries), in_channels=3,
        num_classes=facts.classes, classes=facts.names, preprocess=facts.preprocess.to_dict(), probability="softmax",
        notes={library.name: library.version, "weights": shorten(printable(file.path.name), 200)}, **facts.card,
    )  # fmt: skip
    network = _fresh(card)
    own = network.state_dict()
    given = renamed(network, own, file.entries)
    if (classes := _count_in(own, given, card.num_classes)) != card.num_classes:
        card = dataclasses.replace(card, num_classes=classes, classes=None, top1=None, top5=None, measured=None)
        network = _fresh(card)
    _fill_of_library(library, name, network, file)
    return network, dataclasses.replace(card, parameters=sum(p.numel() for p in network.parameters()))


def _fresh(card: Card) -> nn.Module:
    network = build_named(card)
    assert network is not None  # its card names one
    return network


def _count_in(own: Mapping[str, Tensor], given: Mapping[str, Entry], classes: int) -> int:
    """How many classes weights are of: their last matrix with a row a class tells; as many as expected where none does."""
    heads = [name for name, tensor in own.items() if name.endswith("weight") and tensor.shape[:1] == (classes,)]
    if not heads or set(own) != set(given):
        return classes
    shape = given[heads[-1]].shape
    return int(shape[0]) if len(shape) and tuple(shape[1:]) == tuple(own[heads[-1]].shape[1:]) else classes


def _fill_of_library(library: Library, name: str, network: nn.Module, file: WeightsFile) -> None:
    """Give a network the weights of a file, in its own names or in a format that its library knows.

    Raises:
        WeightsError: they are another network's.
    """
    where, advice = file.path.name, f"that it is {library.name}'s {name}"
    own = network.state_dict()
    if set(renamed(network, own, file.entries)) == set(own):
        check_fit(network, file.entries, where=where, advice=advice)
        return fill(network, file.read(), where=where)
    converted = library.converted(name, network, renamed(network, own, file.read()))
    if converted is None or set(converted) != set(own):
        check_fit(network, file.entries, where=where, advice=advice)  # says in what they differ
    fill(network, converted or {}, where=where)


# -- code of somebody's ----------------------------------------------------------------------------------------------------


def _of_builder(builder: str, wishes: Wishes, code: Code) -> tuple[nn.Module, Card]:
    """What a function of somebody's builds, with weights from a file or those that it gives itself."""
    if (fault := builder_fault(builder)) is not None:
        raise InputError(f"A source of one's own code {fault.replace(chr(39) + 'package', chr(39) + IMPORT + 'package', 1)}.")
    module, _, function = builder.partition(":")
    if not code.allowed:
        raise InputError(
            f"To load {shorten(repr(IMPORT + builder), 120)}, the module {shorten(repr(module), 80)} would be imported and its "
            f"{shorten(repr(function), 60)} called. {_SAYS_SO}"
        )
    made = _called(builder, wishes)
    network = made.model if isinstance(made, Classifier) else made
    if wishes.weights is not None:
        file = open_weights(wishes.weights)
        check_fit(network, file.entries, where=file.path.name, advice=f"that it is what {shorten(builder, 120)} builds")
        fill(network, file.read(), where=file.path.name)
    elif not _alike(network, _called(builder, wishes, seed=1)):
        raise WeightsError(
            f"{IMPORT}{shorten(builder, 120)} builds a network whose weights are others at each call: its answers would be "
            "random. Give a file of them, load(…, weights=FILE), on the command line --weights FILE, or load them in the builder."
        )
    return network, _card_of_built(builder, made, wishes)


def _called(builder: str, wishes: Wishes, seed: int = 0) -> nn.Module | Classifier:
    """What a builder returns, without a trace in torch's generator.

    Raises:
        InputError: it is neither a network nor a classifier.
    """
    named = f"The builder {shorten(repr(builder), 120)}"
    sizes = {} if wishes.class_names is None else {"num_classes": len(wishes.class_names)}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            made = call_builder(builder, sizes, {}, named)
        except InputError as error:
            if "needs 'num_classes', which it is not given" not in str(error):
                raise
            raise InputError(
                f"{named} needs 'num_classes': say them, load(…, class_names=[…]), or give that argument a default."
            ) from error
    if not isinstance(made, nn.Module | Classifier):
        raise InputError(f"{named} must return a torch.nn.Module or a torchbcos.Classifier, and returned {type(made).__name__}.")
    return made


def _alike(network: nn.Module, again: nn.Module | Classifier) -> bool:
    """Whether two networks hold the same numbers."""
    other = (again.model if isinstance(again, Classifier) else again).state_dict()
    own = network.state_dict()
    return own.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in own.items())


def _card_of_built(builder: str, made: nn.Module | Classifier, wishes: Wishes) -> Card:
    """The card of a network from a builder: what its classifier says, what the network knows, else what Classifier finds."""
    if isinstance(made, Classifier):
        name = shorten(builder.rpartition(":")[2], 200)
        return dataclasses.replace(made.card, name=name, architecture=IMPORT + builder, options={}, probe=None)
    if isinstance(made, models.Network) and made.architecture is not None:
        return dataclasses.replace(card_of(made), architecture=IMPORT + builder, options={})
    config = getattr(made, "pretrained_cfg", None)  # of a network of timm's
    prepare = wishes.preprocess
    if prepare is None and isinstance(config, Mapping) and config.get("input_size"):
        prepare = preprocess_of(config, IMPORT + builder)
    ours = any(type(module).__module__.startswith("torchbcos.") for module in made.modules())
    probability = "sigmoid" if ours else "softmax"
    return card_around(made, class_names=wishes.class_names, preprocess=prepare, probability=probability, builder=builder)


# -- programs --------------------------------------------------------------------------------------------------------------


def _of_program(path: Path, wishes: Wishes, code: Code, device: torch.device) -> tuple[nn.Module, Card]:
    """A classifier that `torch.export.save` wrote: pixels (N, C, H, W) in [0, 1] in, logits (N, classes) out."""
    if wishes.weights is not None:
        raise InputError(f"{quote(path)} is a program, which holds its weights: leave out the file of weights.")
    if not code.allowed:
        raise InputError(f"{quote(path)} is a program: what its maker wrote runs when it is opened and called. {_SAYS_SO}")
    program = Program(open_program(path, "program"), str(path), device)
    prepare = wishes.preprocess or program.preprocess
    card = card_around(
        program, class_names=wishes.class_names, preprocess=prepare, probability="softmax"
    )  # fmt: skip
    return program, dataclasses.replace(
        card, name=shorten(printable(path.stem), 200), architecture=f"{UNKNOWN}program", options={}
    )


def chosen(card: Card, wishes: Wishes) -> Card:
    """A card with what a caller says of class names and preprocessing.

    Raises:
        InputError, ArgumentTypeError: they do not fit the network, or are none.
    """
    names, prepare = names_of(wishes.class_names), wishes.preprocess
    if names is not None:
        card = dataclasses.replace(card, classes=as_card(names))
    if prepare is not None:
        found = prepare if isinstance(prepare, Preprocess) else Preprocess.from_dict(prepare)
        card = dataclasses.replace(card, preprocess=found.to_dict())
    return card
