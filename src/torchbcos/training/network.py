"""The network of a recipe: built, imported or pretrained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from torchbcos import nn as bnn
from torchbcos._core.errors import InputError, shorten
from torchbcos.conversion import conversion_of
from torchbcos.models import Network, is_plain, refresh_filters
from torchbcos.training.recipe import MachineSettings, NetworkSettings, Recipe
from torchbcos.zoo import Classifier, create_model, list_models, load, official_cards
from torchbcos.zoo.importing import builder_fault, run_builder
from torchbcos.zoo.meant import own_network

__all__ = ["build_network", "channels_last", "check_head", "head_of"]

_GIVEN = frozenset({"name", "weights", "pretrained", "num_classes", "in_channels", "plain"})  # what `create_model` is told

_OTHER_CHANNELS = "The pretrained network takes {} channels, the data has {}."


def build_network(
    recipe: NetworkSettings, classes: int, channels: int, *, names: Sequence[str] = (), sync: bool = False, normalize: str = ""
) -> tuple[nn.Module, str | None]:
    """The network of a recipe, and the terms of the weights that it begins with.

    A pretrained network gets a fresh classifier, unless its classes are those of `names` in the same order.

    Args:
        recipe: names the network.
        classes: how many logits it returns.
        channels: encoded channels that it takes.
        names: of the classes.
        sync: norms take their statistics over all processes.
        normalize: what a B-cos network brings pictures to, as in `torchbcos.models.Style`; "": as its options say.

    Raises:
        InputError: the network cannot be built, or a pretrained one takes other channels.
    """
    given = sorted(_GIVEN & set(recipe.options))
    if given:
        raise InputError(f"options cannot set {', '.join(given)}: the data and the settings of the recipe decide that.")
    _check_named(recipe.model)
    if ":" in recipe.model:
        if normalize:
            raise InputError("normalize is for named networks: one of your own does so itself.")
        named = f"model={shorten(repr(recipe.model), 120)}"
        return run_builder(recipe.model, num_classes=classes, in_channels=channels, options=recipe.options, named=named), None
    network: nn.Module
    if recipe.pretrained:
        if normalize:
            raise InputError("normalize is for new networks: a pretrained one is fed as it was.")
        network, terms = _pretrained_network(recipe, classes, channels, names)
    else:
        options, terms = dict(recipe.options), None
        if normalize and not (recipe.plain or is_plain(recipe.model)):
            options["normalize"] = normalize
        network = create_model(recipe.model, num_classes=classes, in_channels=channels, plain=recipe.plain, **options)
    taken = network.in_channels if isinstance(network, Network) else channels  # of others `_converted_network` knows it
    if taken != channels:
        raise InputError(_OTHER_CHANNELS.format(taken, channels))
    for norm in network.modules() if sync else ():
        if isinstance(norm, bnn.BatchNorm):
            norm.sync = True
    return network, terms


def _check_named(model: str) -> None:
    """Refuse the name of a network of somebody's own that is not of the form of one.

    Raises:
        InputError: it is not; the message has the form, with the person's own words.
    """
    known = builder_fault(model) is None if ":" in model else model in list_models() or model in official_cards()
    if not known and (meant := own_network(model)) is not None:
        raise InputError(f"There is no network {shorten(repr(model), 120)}: {meant}.")


def _pretrained_network(
    recipe: NetworkSettings, classes: int, channels: int, names: Sequence[str]
) -> tuple[nn.Module, str | None]:  # fmt: skip
    """A network with the weights that a recipe begins with, and their terms; see `build_network`."""
    if recipe.pretrained == "official":
        card = official_cards()[recipe.model]
        network = create_model(recipe.model, pretrained=True, num_classes=classes, **recipe.options)
        known, terms = card.class_names(), card.terms
    else:
        found = load(recipe.pretrained, device="cpu", deploy=False)
        if conversion_of(found.model) is not None or not isinstance(found.model, Network):
            return _converted_network(found, channels, names), found.card.terms
        network, known, terms = found.model, found.class_names, found.card.terms
        network.train().requires_grad_(True)
    if tuple(known) != tuple(names):
        network.reset_classifier(classes)
    network.class_names = None
    if recipe.refresh:
        refresh_filters(network)
    return network, terms


def _converted_network(found: Classifier, channels: int, names: Sequence[str]) -> nn.Module:
    """A network of another library as `bcosify` left it, to be trained on for the classes that it has.

    Raises:
        InputError: it was not converted, or is for other classes or channels.
    """
    what = f"{found.card.name!r}, a {type(found.model).__name__},"
    if conversion_of(found.model) is None:
        raise InputError(f"{what} is no network that can be trained on: convert it first (torchbcos bcosify).")
    if tuple(found.class_names) != tuple(names):
        raise InputError(
            f"{what} was converted with {len(found.class_names)} classes, and the data has {len(names)}, not the same in the "
            "same order; the classifier of a converted network is not exchanged. Give the network these classes, then convert it."
        )
    if found.card.in_channels not in (None, channels):
        raise InputError(_OTHER_CHANNELS.format(found.card.in_channels, channels))
    return found.model.train().requires_grad_(True)


def head_of(network: nn.Module) -> set[int]:
    """The ids of the parameters of the last layer: what `reset_classifier` replaces. Empty for networks of other makers."""
    return network.classifier_parameters() if isinstance(network, Network) else set()


def check_head(network: nn.Module, recipe: Recipe) -> None:
    """Refuse what needs to know the classifier where it is not known.

    Raises:
        InputError: the recipe freezes everything else, or gives it a rate of its own.
    """
    if (recipe.freeze_epochs or recipe.head_lr != 1) and not head_of(network):
        raise InputError(
            f"freeze_epochs and head_lr need to know the classifier, and {type(network).__name__} is no "
            "torchbcos.models.Network, which names it: set freeze_epochs=0 and head_lr=1."
        )


def channels_last(network: nn.Module, recipe: MachineSettings) -> nn.Module:
    """The network with its filters in that order, where the recipe wants it and they are of two dimensions."""
    flat = all(p.dim() <= 4 for p in network.parameters())
    return network.to(memory_format=torch.channels_last) if recipe.channels_last and flat else network
