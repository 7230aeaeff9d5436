"""What the query of a request asks for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from torchbcos._core.errors import BcosError
from torchbcos._core.names import hint, quote, whole_number
from torchbcos.service.answers import Asked
from torchbcos.service.limits import Limits
from torchbcos.service.refusals import Refused
from torchbcos.zoo import Classifier

__all__ = ["METHODS", "asked_of", "check_names", "form_of", "layers_of"]

_FORMS = {"application/json": "json", "image/png": "png", "application/x-npz": "npz", "application/x-torchbcos-proof": "proof"}
_KNOWN = {
    "predict": ("model", "top_k"), "explain": ("model", "class", "contrast", "top_k", "maps", "smooth"),
    "change": ("model", "class", "steps", "smooth", "top_k"), "compare": ("model", "class", "method"),
    "feature": ("model", "at", "channel", "smooth"),
}  # fmt: skip
METHODS = ("grad_cam", "integrated_gradients", "input_x_gradient")
_MOST_SMOOTH = 255


def check_names(action: str, given: Iterable[str]) -> None:
    """Refuse a parameter that nothing would come of: a mistyped one would be ignored in silence.

    Raises:
        Refused: 422.
    """
    for name in given:
        if name not in _KNOWN[action]:
            known = ", ".join(_KNOWN[action])
            raise Refused(422, f"There is no parameter {quote(name[:80])}, but {known}.{hint(name[:80], _KNOWN[action])}")


def form_of(accept: str) -> str:
    """Which form of an answer an Accept header asks for: JSON where it takes anything.

    Raises:
        Refused: 406, none of them.

    >>> form_of("image/png, */*;q=0.1"), form_of("text/html,*/*")
    ('png', 'json')
    """
    asked: list[tuple[float, str]] = []
    for part in accept.lower().split(",")[:32]:
        kind, *options = [word.strip() for word in part.split(";")]
        quality = next((word[2:] for word in options if word.startswith("q=")), "1")
        worth = float(quality) if re.fullmatch(r"[01](\.\d{0,3})?", quality) else 1.0
        asked.append((worth, kind))
    for worth, kind in sorted(asked, key=lambda one: -one[0]):
        if worth > 0 and kind in _FORMS:
            return _FORMS[kind]
        if worth > 0 and kind in ("*/*", "", "application/*"):
            return "json"
    raise Refused(406, f"An answer is one of {', '.join(_FORMS)}.")


def asked_of(
    action: str, model: str, classifier: Classifier, given: Mapping[str, Any], classes: list[str], form: str, limits: Limits
) -> Asked:
    """The question of a request.

    Args:
        action: as `Asked` has it.
        model: its name.
        classifier: who answers.
        given: the parameters; of several of one name the last.
        classes: all that "class" names.
        form: of the answer.
        limits: how many classes are too many.

    Raises:
        Refused: 422, a parameter does not fit.
    """
    count = len(classifier.class_names)
    top_k = _number(given, "top_k", 1 if action == "explain" else 5, 1, min(limits.top_k, count))
    if action == "predict":
        return Asked("predict", model, top_k=top_k)
    if len(classes) > limits.top_k:
        raise Refused(422, f"At most {limits.top_k} classes are explained at a time.")
    maps = given.get("maps", "false")
    if maps not in ("true", "false", "1", "0"):
        raise Refused(422, "maps is true or false.")
    if maps in ("true", "1") and form != "json":
        raise Refused(422, "maps come in JSON: ask for Accept: application/json.")
    targets = tuple(dict.fromkeys(_class(classifier, name) for name in classes)) or None
    smooth = _number(given, "smooth", 15, 1, _MOST_SMOOTH)
    if action == "feature":
        return _feature(model, classifier, given, smooth)
    if action == "change":
        return Asked("change", model, targets, top_k=top_k, smooth=smooth)
    if action == "compare":
        method = given.get("method", METHODS[0])
        if method not in METHODS:
            raise Refused(422, f"method is one of {', '.join(METHODS)}.")
        return Asked("compare", model, targets, method=method)
    contrast = _class(classifier, given["contrast"]) if given.get("contrast") else None
    return Asked(
        "explain", model, targets, contrast, top_k, "maps" if maps in ("true", "1") else form, smooth  # type: ignore[arg-type]
    )  # fmt: skip


def _feature(model: str, classifier: Classifier, given: Mapping[str, Any], smooth: int) -> Asked:
    """A question about an inner feature.

    Raises:
        Refused: 422, there is no such module.
    """
    at = str(given.get("at", ""))
    if at not in layers_of(classifier):
        raise Refused(422, f"at names a layer of the network, and {quote(at[:80])} is none: /v1/models lists them.")
    channel = _number(given, "channel", 0, 0, 2**20) if "channel" in given else None
    return Asked("feature", model, None if channel is None else (channel,), smooth=smooth, at=at)


def layers_of(classifier: Classifier) -> list[str]:
    """Names of the layers whose features can be asked for: those with filters of their own, but for the last one."""
    named = [name for name, module in classifier.model.named_modules() if name and _has_filters(module)]
    return named[:-1]


def _has_filters(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.dim() == 4


def _number(given: Mapping[str, Any], name: str, usual: int, least: int, most: int) -> int:
    if name not in given:
        return min(usual, most)
    found = whole_number(str(given[name])[:20])
    if found is None or not least <= found <= most:
        raise Refused(422, f"{name} is a number from {least} to {most}.")
    return found


def _class(classifier: Classifier, name: str) -> int:
    try:
        return int(classifier.class_index(name[:200]))
    except BcosError as error:
        raise Refused(422, str(error)) from None
