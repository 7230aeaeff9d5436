"""A model folder written: only what `load` builds again, to the same numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from torchbcos._core.errors import BcosError, InputError, shorten
from torchbcos.conversion import conversion_of, given_network, pruned_of
from torchbcos.deployment import is_deployed
from torchbcos.models import Network
from torchbcos.pictures import Preprocess
from torchbcos.zoo.archive import entry_of
from torchbcos.zoo.build import as_deployed, builder_of, from_card, inputs_of, is_own, maker_of
from torchbcos.zoo.card import Card
from torchbcos.zoo.classifier import Classifier
from torchbcos.zoo.describe import UNKNOWN, Builder, card_around, card_of, described
from torchbcos.zoo.importing import builder_path
from torchbcos.zoo.looked import look
from torchbcos.zoo.probe import NO_INPUT, differ
from torchbcos.zoo.program import Program
from torchbcos.zoo.recorded import PROGRAM, digest_of, is_self_contained, record_program
from torchbcos.zoo.remembered import remember_outputs
from torchbcos.zoo.saveable import OWN_MAKER, check_same, state_of, unwrapped
from torchbcos.zoo.sequential import SEQUENTIAL, describe_sequential
from torchbcos.zoo.store import check_fit, of_today, write_folder

__all__ = ["save", "write_model"]


def save(
    model: nn.Module | Classifier,
    directory: str | Path,
    *,
    builder: Builder | None = None,
    options: Mapping[str, Any] | None = None,
    program: bool | None = None,
) -> None:
    """Write `model.safetensors` and `card.json`; `load` and `create_model(weights=...)` read them.

    A deployed twin is written as such (its card says so): it comes back with the same numbers and refuses to train.

    What is saved is what `load` builds again, with these weights: the network inside `torch.compile`, `DataParallel`,
    `DistributedDataParallel` and `AveragedModel`. Whatever else was changed after `create_model` (other layers or settings,
    parametrised or pruned weights, quantised ones; forward hooks, replaced methods) is refused.

    A network of one's own is saved, too: a plain `nn.Sequential` of known layers as data, any other by the function or class
    that builds it. That builder is called, and what it builds is compared with the network: names, shapes, and the outputs for
    one input. Its code is not in the folder: `load(..., allow_code=True)` imports it.

    Args:
        model: any network that `explain` takes, or a classifier, whose class names and preprocessing are saved with it.
        directory: created if it does not exist.
        builder: "package.module:function" (or that function, or a class): what builds a network of one's own. It is called with
            those of `num_classes`, `in_channels` and `options` that it takes.
        options: further arguments of the builder, as JSON can hold them.
        program: write the network as a program, too (`program.pt2`), which `load(..., allow_code=True)` takes where what builds
            it is not installed. It is recorded for pictures of the classifier's size, and explains as the network does. None:
            of converted networks of other libraries whose layers are all ours and torch's, if it can be recorded.

    Warns:
        ExplanationWarning: the network is one of one's own, and `explain` refuses it or does not add up.

    Raises:
        InputError: nobody knows how to build the network again, or it was changed since it was built.
        WeightsError: it holds NaN or infinite numbers, or tensors that are no plain floating-point ones.
        StateError: the files could not be written; nothing is left half-written.
    """
    if not str(directory):
        raise InputError("save needs a folder; '' is none ('.' is this one).")
    if isinstance(model, Classifier):
        network, card = unwrapped(model.model), model.card
        if builder is not None or options is not None:
            architecture, options = described(network, builder or builder_of(card), options)
            card = dataclasses.replace(card, architecture=architecture, options=options)
        if (conversion := conversion_of(network)) is not None and card.conversion != conversion:
            raise InputError(_NOT_ITS_CARD)
    elif isinstance(model, nn.Module):
        network = unwrapped(model)
        given = given_network(network)
        own = builder is not None or not isinstance(given, Network) or given.architecture is None
        if own and described(network, builder, options)[0].startswith(UNKNOWN):
            raise _unknown(network)
        card = card_around(network, builder=builder, options=options) if own else card_of(network)
        if own:
            look(network, Preprocess.from_dict(dict(card.preprocess or {})))
    else:
        raise InputError(f"save needs a network (a torch.nn.Module) or a classifier, not {type(model).__name__}.")
    write_model(network, card, directory, program=_program_of(network, card, program))


def _program_of(network: nn.Module, card: Card, wanted: bool | None) -> bytes | None:
    """The program to write beside the weights; None where there is to be none.

    Raises:
        StateError: it is wanted, and cannot be recorded.
    """
    if wanted is None and (card.conversion is None or maker_of(card) is None or not is_self_contained(network)):
        return None
    if wanted is False:
        return None
    try:
        return record_program(network, card)
    except BcosError:
        if wanted:
            raise
        return None


def write_model(
    network: nn.Module, card: Card, directory: str | Path, *, example: Tensor | None = None, program: bytes | None = None
) -> None:  # fmt: skip
    """Write a model folder with a card of the caller's.

    Args:
        network: of that card.
        card: says how the network is built: of a builder of somebody's own, code runs.
        directory: created if it does not exist.
        example: an encoded input (N, C, *S), on which a network of one's own and what its builder builds are compared; without,
            one is made up.
        program: of the network, to lie beside the weights.

    Raises:
        InputError: the card builds another network, or none.
        WeightsError: the network holds NaN or infinite numbers, or tensors that are no plain floating-point ones.
        StateError: the files could not be written.
    """
    network = unwrapped(network)
    digest = None if program is None else digest_of(program)
    card = dataclasses.replace(
        card,
        deployed=is_deployed(network),
        probe=None,
        program=digest,
        pruned=pruned_of(network) or pruned_of(given_network(network)),
    )
    if card.architecture.startswith(UNKNOWN):
        raise _unknown(network)
    state = state_of(network)
    if (builder := maker_of(card)) is not None:
        rebuilt = _rebuilt(card, builder, state)
        check_same(network, rebuilt, OWN_MAKER if builder_of(card) else builder)
    else:
        if card.architecture == SEQUENTIAL and not card.deployed:  # as it is now
            card = dataclasses.replace(card, options=_layers_of(network))
        with torch.device("meta"):
            rebuilt = from_card(card)
            rebuilt = as_deployed(rebuilt, card, state)
            check_same(network, rebuilt, "its card" if is_own(card) else "create_model")
    check_fit(rebuilt, {name: entry_of(value) for name, value in state.items()}, where="The network")
    if builder is not None:
        own = {name: value.dtype for name, value in rebuilt.state_dict().items()}
        rebuilt.load_state_dict(of_today(state, rebuilt.state_dict()), assign=True)
        given = [example] if example is not None else list(inputs_of(card))
        _check_outputs(network, rebuilt, iter(given), builder)
        if any(state[name].dtype is not kind for name, kind in own.items()):  # load fills what the builder makes
            rebuilt = _rebuilt(card, builder, state)
            rebuilt.load_state_dict(of_today(state, rebuilt.state_dict()))
        card = dataclasses.replace(card, probe=_probe_of(rebuilt.cpu(), card, given))
    write_folder(Path(directory), state, card, {} if program is None else {PROGRAM: program})


def _probe_of(rebuilt: nn.Module, card: Card, inputs: Iterable[Tensor]) -> dict[str, Any] | None:
    """What a network gives for a made-up input, in one of the sizes of these, as its card remembers it."""
    found = (remember_outputs(rebuilt, card.in_channels, x.shape[2:]) for x in inputs)
    return next((probe for probe in found if probe is not None), None)


def _layers_of(network: nn.Module) -> dict[str, Any]:
    try:
        return describe_sequential(network)
    except InputError as error:
        raise InputError(f"This network cannot be saved as it is now: {error}. {_ADVICE}") from None


_NOT_ITS_CARD = (
    "This classifier has the card of the network from before its conversion: torchbcos.bcosify(classifier) gives a classifier "
    "whose card says how it was converted, and Classifier(network) one around a converted network."
)
_ADVICE = (
    "Put what builds it into a function of a file, mynets.py say, and name that: save(classifier, folder, "
    "builder='mynets:build', options={…}); load(folder, allow_code=True) calls it again."
)


def _unknown(network: nn.Module) -> InputError:
    """That nobody knows how a network is built, and what to do."""
    kind = type(network)
    if kind is Program:
        return InputError("A program is not saved as a folder: its file is the model; copy it.")
    try:
        path, reason = builder_path(kind), "its class needs arguments that no module remembers"
    except InputError:
        path = ""
        reason = "its class stands in a script, a notebook or a function, where load cannot import it"
    if kind is nn.Sequential:
        try:
            describe_sequential(network)
        except InputError as error:
            reason = str(error)
    config = getattr(network, "pretrained_cfg", None)
    name = config.get("architecture") if isinstance(config, Mapping) else None
    if isinstance(name, str) and path.startswith("timm."):
        return InputError(
            f"A bare {kind.__name__} does not say which of timm it is. Save its weights (torch.save(network.state_dict(), "
            f"'weights.pth')) and open them by its name: torchbcos.load('timm:{shorten(name, 80)}', weights='weights.pth', "
            "class_names=[…], preprocess={…}, deploy=False) is a classifier that can be saved."
        )
    advice = _ADVICE.replace("mynets:build", path) if path and kind is not nn.Sequential else _ADVICE
    return InputError(f"A folder cannot tell how this {kind.__name__} is built: {shorten(reason, 200)}. {advice}")


def _rebuilt(card: Card, builder: str, state: Mapping[str, Any]) -> nn.Module:
    """What the builder of a card builds, without a trace in torch's generator.

    Raises:
        InputError: it builds nothing.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            rebuilt = from_card(card)
    except BcosError as error:
        raise InputError(f"This network cannot be saved, because load could not build it: {error}") from error
    if any(is_lazy(value) for value in (*rebuilt.parameters(), *rebuilt.buffers())):
        raise InputError(
            f"This network cannot be saved: {shorten(repr(builder), 100)} leaves layers whose sizes are unknown until they run "
            "(torch.nn.Lazy…). Run the network once inside its builder, or give these layers their sizes."
        )
    return as_deployed(rebuilt, card, state)


def _check_outputs(network: nn.Module, rebuilt: nn.Module, inputs: Iterator[Tensor], builder: str) -> None:
    """Whether what the builder built gives, with the network's weights, what the network gives; where an input is found for it.

    Raises:
        InputError: it does not.
    """
    if (difference := differ(network, rebuilt, inputs)) not in (None, NO_INPUT):
        raise InputError(
            f"This network cannot be saved: with its weights, {shorten(repr(builder), 100)} builds a network {difference}. Give "
            "the options that it was built with (options={…}); what is set after it was built belongs into the builder, or into "
            "a buffer."
        )
