"""Networks of cards, fresh: of a name of ours, of layers written as data, or of somebody's own code where a person said so."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchbcos import models
from torchbcos._core.errors import BcosError, InputError, StateError, WeightsError, shorten
from torchbcos._core.pickled import Entry
from torchbcos.conversion import apply_steps, cut_to_size, cuts_from, mark, mark_cut, steps_from
from torchbcos.deployment import make_twin_, not_of_unit_norm
from torchbcos.pictures import Preprocess
from torchbcos.zoo.archive import WeightsFile
from torchbcos.zoo.card import Card
from torchbcos.zoo.importing import IMPORT, run_builder
from torchbcos.zoo.libraries import build_named, library_of
from torchbcos.zoo.probe import samples
from torchbcos.zoo.remembered import deviation
from torchbcos.zoo.sequential import SEQUENTIAL, build_sequential
from torchbcos.zoo.sizes import trained_sides
from torchbcos.zoo.store import check_fit, fill

__all__ = [
    "NO_CODE",
    "Code",
    "as_deployed",
    "assemble",
    "build_fitting",
    "builder_of",
    "from_card",
    "inputs_of",
    "is_own",
    "maker_of",
    "remember",
]

# what a card knows of weights, and a network cannot: it takes them along
_FACTS = ("preprocess", "probability", "temperature", "terms")
_BUILD_ERRORS = (BcosError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Code:
    """Whether the code that a card names may run.

    Attributes:
        allowed: a person said so.
        avoid: folders that came with the card, from which nothing is imported even so.
    """

    allowed: bool = False
    avoid: tuple[Path, ...] = ()


NO_CODE = Code()


def builder_of(card: Card) -> str | None:
    """The builder that a card names, "package.module:function"; None where no code of others builds its network."""
    return card.architecture.removeprefix(IMPORT) if card.architecture.startswith(IMPORT) else None


def maker_of(card: Card) -> str | None:
    """What code builds the network of a card that is none of this library: a builder, or a name of timm or torchvision."""
    return card.architecture if library_of(card.architecture) is not None else builder_of(card)


def is_own(card: Card) -> bool:
    """Whether the network of a card is none of `create_model`."""
    return card.architecture == SEQUENTIAL or maker_of(card) is not None


def from_card(card: Card, options: Mapping[str, Any] | None = None) -> nn.Module:
    """The network that a card describes, fresh; of a card that names a builder, code runs.

    Args:
        card: of a network.
        options: of the caller's, over those of the card; a network of somebody's own has none.

    Raises:
        StateError: the card's conversion, or its pruning, is not for its network.
    """
    return _converted(_given(_before(card), options), card)


def _before(card: Card) -> Card:
    """The card of the network before it was converted and pruned, as far as it says how to build it."""
    card = dataclasses.replace(card, pruned=None)
    if card.conversion is None or card.architecture == SEQUENTIAL:
        return card
    return dataclasses.replace(card, conversion=None, probe=None, preprocess=None, in_channels=max(card.in_channels // 2, 1))


def _converted(network: nn.Module, card: Card) -> nn.Module:
    """A fresh network, pruned and converted as its card says; a sequence is written as it is afterwards.

    Raises:
        StateError: a step is not for this network.
    """
    sequence = card.architecture == SEQUENTIAL
    if card.pruned is not None:  # before it was converted: converted networks are not pruned
        cuts = cuts_from(card.pruned)
        network = mark_cut(network, cuts) if sequence else cut_to_size(network, cuts)
    if card.conversion is not None:
        steps = steps_from(card.conversion["steps"])
        if not sequence:
            with torch.random.fork_rng(devices=[]):
                network = apply_steps(network, steps)
        network = mark(network, steps, card.conversion["settings"])
    return network


def _given(card: Card, options: Mapping[str, Any] | None) -> nn.Module:
    """`from_card` before its conversion."""
    if (builder := builder_of(card)) is not None:
        return run_builder(builder, num_classes=card.num_classes, in_channels=card.in_channels, options=card.options)
    if card.architecture == SEQUENTIAL:
        return build_sequential(card.options)
    if (named := build_named(card)) is not None:
        return named
    return models.build(
        card.architecture, num_classes=card.num_classes, in_channels=card.in_channels, plain=card.plain,
        **{**card.options, **(options or {})},
    )  # fmt: skip


def assemble(
    card: Card, file: WeightsFile, options: Mapping[str, Any], *, where: str, code: Code = NO_CODE
) -> nn.Module:  # fmt: skip
    """The network of a card with its weights, and what the card says of them; arguments as `build_fitting`.

    Raises:
        InputError, WeightsError: as `build_fitting`; or code that builds it gives other numbers than when it was saved.
    """
    network = build_fitting(card, file.entries, options, where=where, code=code)
    fill(network, file.read(), where=where)
    if card.deployed and (layer := not_of_unit_norm(network)) is not None:
        raise WeightsError(
            f"{where}: the card says that these weights are a deployed twin's, and those of {layer!r} are not: they have no unit "
            "norm. Correct the card's 'deployed', or save the model again."
        )
    if isinstance(network, models.Network):
        remember(network, card)
    if card.probe is not None and (found := deviation(network, card.in_channels, card.probe)) is not None:
        raise WeightsError(
            f"{shorten(where, 80)!r}: {shorten(str(maker_of(card)), 120)} gives other numbers than when this model was saved "
            f"({found}): its code was changed since{_releases(card)}. Use the code of then, or train and save the model with "
            "that of now; if the change is meant to act on these weights, take 'probe' out of card.json."
        )
    return network


def build_fitting(
    card: Card, entries: Mapping[str, Entry], options: Mapping[str, Any], *, where: str, code: Code = NO_CODE
) -> nn.Module:  # fmt: skip
    """The network of a card, fresh, if weights like these are its own: nothing is allocated before.

    A card is a stranger's file: it may speak of a billion classes, which its weights do not have.

    Args:
        card: of the weights.
        entries: the dtype and shape of each, by name.
        options: of the caller's, over those of the card.
        where: what the weights are called in messages.
        code: whether a builder that the card names may run.

    Raises:
        InputError: the card names a builder, and nobody said that it may run; or it fails.
        WeightsError: they belong to another network, or there is none as the card says.
    """
    if (builder := builder_of(card)) is not None:
        _check_allowed(builder, card, code, where)
        network = run_builder(
            builder, num_classes=card.num_classes, in_channels=_before(card).in_channels, options=card.options,
            avoid=code.avoid, named=f"The builder {shorten(repr(builder), 120)} of {shorten(where, 80)!r}",
        )  # fmt: skip
        network = as_deployed(_fitting(network, card, where), card, entries)
        check_fit(network, entries, where=where)
        return network
    if library_of(card.architecture) is not None:
        return _fitting_of_library(card, entries, where)
    try:
        with torch.device("meta"):
            network = from_card(card, options)
            twin = as_deployed(network, card, entries)
    except _BUILD_ERRORS as error:
        if isinstance(error, BcosError) and options:  # the caller's own
            raise
        reason = shorten(str(error).splitlines()[0] if str(error) else type(error).__name__, 300)
        raise WeightsError(f"{where}: there is no network as its card says: {reason}") from None
    check_fit(twin, entries, where=where)
    network = from_card(card, options)
    return as_deployed(network, card, entries)  # before its weights: a twin has fewer


def _fitting(network: nn.Module, card: Card, where: str) -> nn.Module:
    """`converted`, whose refusal is one about these weights.

    Raises:
        WeightsError: the card's conversion is not for this network.
    """
    try:
        return _converted(network, card)
    except StateError as error:
        raise WeightsError(f"{shorten(where, 120)}: {error}") from error


def _fitting_of_library(card: Card, entries: Mapping[str, Entry], where: str) -> nn.Module:
    """`build_fitting` of a network of timm or torchvision, some of which cannot be built without memory.

    Raises:
        InputError, MissingPackageError: there is no such network, or no such library.
        WeightsError: the weights are another one's.
    """
    given = _before(card)
    try:
        with torch.device("meta"):
            check_fit(as_deployed(_fitting(from_card(given), card, where), card, entries), entries, where=where)
    except BcosError:
        raise
    except _BUILD_ERRORS as error:
        if not any(entry.shape[:1] == (card.num_classes,) for entry in entries.values()):
            raise WeightsError(f"{where}: its card speaks of {card.num_classes:,} classes, and its weights do not.") from error
    try:
        network = from_card(given)
    except BcosError:
        raise
    except _BUILD_ERRORS as error:
        reason = shorten(" ".join(str(error).split()) or type(error).__name__, 200).rstrip(".")
        raise WeightsError(f"{where}: {card.architecture} cannot be built: {reason}.") from error
    network = as_deployed(_fitting(network, card, where), card, entries)
    check_fit(network, entries, where=where)
    return network


def _releases(card: Card) -> str:
    """With which release of its library a model was saved, and which is here, as a part of a sentence."""
    found = library_of(card.architecture)
    saved = card.notes.get(found[0].name) if found is not None and isinstance(card.notes, Mapping) else None
    return f" (saved with {found[0].name} {saved}, here is {found[0].version})" if found is not None and saved else ""


def as_deployed(network: nn.Module, card: Card, names: Iterable[str]) -> nn.Module:
    """The network, made the twin whose tensors have these names, if its card says that they are a twin's."""
    return make_twin_(network, check=False, keep=_owners_of(names)) if card.deployed else network


def _owners_of(names: Iterable[str]) -> set[str]:
    """The modules that have tensors of these names: of a twin, its norms that were not folded are among them.

    >>> _owners_of(["conv.weight", "norm.running_var"]) == {"conv", "norm"}
    True
    """
    return {name.rpartition(".")[0] for name in names}


def inputs_of(card: Card) -> Iterator[Tensor]:
    """Made-up inputs for the network of a card, encoded as it wants them; none where the card does not say how."""
    if card.preprocess is not None:
        prepare = Preprocess.from_dict(card.preprocess)
        sides = trained_sides(card, prepare)
        yield from samples(prepare, [] if sides is None else [sides])


def _check_allowed(builder: str, card: Card, code: Code, where: str) -> None:
    """Refuse code that nobody allowed, before anything of it is imported.

    Raises:
        InputError: nobody did.
    """
    if code.allowed:
        return
    module, _, function = builder.partition(":")
    with_ = f", with {shorten(repr(dict(card.options)), 100)}" if card.options else ""
    raise InputError(
        f"{shorten(where, 80)!r} is a network of somebody's own: to load it, the module {shorten(repr(module), 80)} would be "
        f"imported and its {shorten(repr(function), 60)} called{with_}, and files do not run code by themselves. If you trust "
        "who wrote that module and this model: load(…, allow_code=True), on the command line --allow-code."
    )


def remember(network: models.Network, card: Card) -> None:
    """Give a network what its card says of its weights: saved again, it says the same."""
    if card.classes is not None and card.num_classes == network.num_classes:
        network.class_names = card.class_names()
    if card.plain == network.plain and card.in_channels == network.in_channels:
        network.facts = {name: copy.deepcopy(getattr(card, name)) for name in _FACTS}
