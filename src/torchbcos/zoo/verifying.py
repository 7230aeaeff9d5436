"""Is a proof true? Its own sums, and the same explanation computed anew."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torchbcos._core.errors import ArgumentTypeError, BcosError, InputError
from torchbcos._core.fingerprint import fingerprint, hash_of
from torchbcos._core.names import brief, quote
from torchbcos.explanation import Explanation
from torchbcos.explanation.complete import usual_tolerance
from torchbcos.explanation.engine import explain_through
from torchbcos.explanation.proving import Stated, card_hash, file_hash, read_proof
from torchbcos.pictures import Preprocess, Range
from torchbcos.zoo.classifier import Classifier
from torchbcos.zoo.load import load
from torchbcos.zoo.sources import embedded_names

__all__ = ["Finding", "Verdict", "verify"]

_MAP = 20  # a map may differ by so many tolerances: of its sum of sizes, where the value's are of the value
_HALF_MAP = 1e-3  # and by what half precision costs, 2^-11, with room
_MOST_MAP = (0.02, 0.2)  # of its sum of sizes that a map may be off by at most: in 32 bits or more, and in 16
_CLOSEST = 16.0  # digits
_TF32 = 5e-3  # of float32, where a graphics card multiplies as TF32; `Explanation.complete`


@dataclass(frozen=True)
class Finding:
    """One thing that was compared.

    Attributes:
        what: "weights", "logit", "map", …
        agrees: True or False; None: it could not be told.
        said: one sentence.
    """

    what: str
    agrees: bool | None
    said: str


@dataclass(frozen=True)
class Verdict:
    """What became of a proof.

    Attributes:
        claim: what the proof says, in one sentence.
        findings: what was compared.
        recomputed: the explanation was computed anew; without it only the file itself was looked at.

    >>> print(Verdict("a claim", (Finding("sum", True, "to 7 digits"),), recomputed=False))
    a claim
      agrees   sum: to 7 digits
    The file is whole and its numbers add up. Whoever wrote it could have written others: only a network and its picture tell.
    """

    claim: str
    findings: tuple[Finding, ...]
    recomputed: bool

    @property
    def agrees(self) -> bool:
        """Nothing was found to differ."""
        return all(finding.agrees is not False for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**dataclasses.asdict(self), "findings": [*map(dataclasses.asdict, self.findings)], "agrees": self.agrees}

    def __str__(self) -> str:
        words = {True: "agrees", False: "DIFFERS", None: "unknown"}
        lines = [f"  {words[one.agrees]:<8} {one.what}: {one.said}" for one in self.findings]
        wrong = [one.what for one in self.findings if one.agrees is False]
        if wrong:
            last = f"This proof does not hold here: {', '.join(wrong)}."
        elif self.recomputed:
            unknown = [one.what for one in self.findings if one.agrees is None]
            last = f"Computed anew, and it holds; unknown: {', '.join(unknown)}." if unknown else "Computed anew, and it holds."
        else:
            last = (
                "The file is whole and its numbers add up. Whoever wrote it could have written others: only a network and its "
                "picture tell."
            )
        return "\n".join([self.claim, *lines, last])


def verify(
    file: str | Path, model: Any = None, picture: str | Path | None = None, *, input: Tensor | None = None,
    weights: str | Path | None = None, device: str = "auto", double: bool = False, allow_code: bool = False,
    value_range: Range | None = None,
) -> Verdict:  # fmt: skip
    """Check a proof that `Explanation.prove` wrote; the file may come from a stranger.

    With a network and a picture the explanation is computed anew, and logit, constants and map are compared. Without them the
    checksum and the sum are: that finds a damaged file and no forged one.

    Args:
        file: the proof.
        model: a source as `load` takes it, a Classifier, or a network; None: the embedded network that the proof names, if it
            names one.
        picture: the file that was explained.
        input: (C, *S) or (1, C, *S) as the network takes it, in place of a picture: for what `torchbcos.explain` explained.
        weights, device, allow_code: as in `load`.
        double: compute in float64, too.
        value_range: the stored numbers of black and white in `picture`, where `explain` was told them.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is no proof, or one byte of it was changed; or arguments do not fit together.

    Example:
        `print(torchbcos.verify("bus.proof.json", picture="bus.jpg"))`
    """
    if input is not None and not isinstance(input, Tensor):
        raise ArgumentTypeError(f"input is a tensor, as the network takes it, not {type(input).__name__}.")
    stated = read_proof(Path(file))
    findings = [_sum(stated)]
    if picture is None and input is None:
        if model is not None:
            findings += _of_weights(stated, *_opened(model, weights, device, allow_code))
        return Verdict(_claim(stated), tuple(findings), recomputed=False)
    if picture is not None and input is not None:
        raise InputError("A picture or an input: give one of them.")
    network, classifier = _opened(_named(stated) if model is None else model, weights, device, allow_code)
    findings += _of_weights(stated, network, classifier)
    findings += _recomputed(stated, network, classifier, picture, input, double, value_range)
    return Verdict(_claim(stated), tuple(findings), recomputed=True)


def _claim(stated: Stated) -> str:
    record = stated.record
    other = "" if record["contrast"] is None else f" rather than {brief(record['contrast']['label'])}"
    name, share = record["model"]["name"], record["share"]
    shown = "" if record["picture"] is None else f" in {brief(record['picture']['name'])}"
    part = "" if share is None else f", of which the pixels carry {share:.1%}"
    seen = f"{brief(name) if name else 'a network'} sees {brief(record['target']['label'])}{other}{shown}"
    return f"Claimed: {seen} with a logit of {record['value']:.4f}{part}."


def _opened(model: Any, weights: Any, device: str, allow_code: bool) -> tuple[nn.Module, Classifier | None]:
    if isinstance(model, (str, Path)):
        model = load(model, weights=weights, device=device, allow_code=allow_code)
    if isinstance(model, Classifier):
        return model.model, model
    if isinstance(model, nn.Module):
        return model, None
    raise ArgumentTypeError(f"model is a source, a Classifier or a network, not {type(model).__name__}.")


def _named(stated: Stated) -> str:
    """The embedded network that a proof names. Whatever else it names stays closed: a stranger chose the name."""
    name = stated.record["model"]["name"]
    if name not in embedded_names():
        said = "names none" if name is None else f"is about {quote(brief(name))}, which does not come along"
        raise InputError(f"Which network? The proof {said}: give model=… (--model).")
    return str(name)


# -- what the file says of itself --------------------------------------------------------------------------------------------


def _sum(stated: Stated) -> Finding:
    """Whether map and constants add up to the value, and what is derived of them fits."""
    record, map_ = stated.record, stated.map
    constants, value = sum(record["constants"].values()), record["value"]
    size = max(1.0, abs(value), 0.1 * (float(np.abs(map_).sum()) + sum(map(abs, record["constants"].values()))))
    allowed = min(record["tolerance"], _coarsest(record)) * size
    rest = value - record["contribution"] - constants
    if not abs(float(map_.sum()) - record["contribution"]) <= stated.slack + 1e-6 * size:
        return Finding("sum", False, f"the map adds up to {map_.sum():.4f}, and the proof says {record['contribution']:.4f}")
    if not abs(rest - record["residual"]) <= 1e-5 * size:
        return Finding(
            "sum", False, f"pixels and constants leave {rest:.2g} of the logit, and the proof says {record['residual']:.2g}"
        )
    aside = set(record["fixed"])
    carried = record["contribution"] + sum(c for name, c in record["constants"].items() if name not in aside)
    share = record["contribution"] / carried if carried else math.nan
    if record["share"] is not None and not abs(share - record["share"]) <= 1e-3 * max(1.0, abs(share)):
        return Finding("sum", False, f"the share of the pixels is {share:.1%}, and the proof says {record['share']:.1%}")
    if not abs(rest) <= allowed:
        return Finding("sum", False, f"pixels and constants miss the logit by {rest:.2g}, more than rounding ({allowed:.2g})")
    return Finding(
        "sum", True, f"pixels {record['contribution']:.4f} + constants {constants:.4f} = {value:.4f}, residual {rest:.0e}"
    )


# -- against a network -------------------------------------------------------------------------------------------------------


def _of_weights(stated: Stated, network: nn.Module, classifier: Classifier | None) -> list[Finding]:
    said, card = stated.record["model"], None if classifier is None else classifier.card
    same = fingerprint(network) == said["weights"]
    file = card is not None and card.digest is not None and card.digest == said["file"]
    count = sum(p.numel() for p in network.parameters())
    if same and count == said["parameters"]:
        found = [Finding("weights", True, "the same numbers")]
    elif file:
        found = [Finding("weights", None, "the card names the same file, and its numbers are others here: folded, or changed")]
    else:
        more = f": {count:,} parameters, and the proof is about {said['parameters']:,}" if count != said["parameters"] else ""
        found = [Finding("weights", False, f"this is another network, or it was trained on{more}")]
    if card is not None and said["card"] is not None:
        fits = card_hash(card.to_dict()) == said["card"]
        if card.name != said["name"]:
            found.append(
                Finding("name", None, f"it is {brief(card.name)} here, and the proof calls it {brief(str(said['name']))}")
            )
        found.append(Finding("card", True if fits else None, "the same" if fits else "another one, in names, settings or notes"))
    return found


def _recomputed(
    stated: Stated, network: nn.Module, classifier: Classifier | None, picture: str | Path | None, x: Tensor | None, double: bool,
    value_range: Range | None,
) -> list[Finding]:  # fmt: skip
    found = [] if picture is None else _of_file(stated, Path(picture))
    try:
        e = _explained(stated, network, classifier, picture, x, value_range)
    except _Differs as differs:
        return [*found, differs.finding]
    fits = hash_of(e.inputs[0]) == stated.record["input"]["sha256"]
    known = bool(found) and found[0].agrees is True
    words = (
        "the same pixels"
        if fits
        else "the same file, prepared to other numbers"
        if known
        else "another picture, or prepared otherwise"
    )
    mine = str(e.inputs.dtype)[6:]
    if mine != stated.record["input"]["dtype"]:
        found.append(Finding("precision", False, f"{mine} here, and the proof says {stated.record['input']['dtype']}"))
    if classifier is None and e.label(stated.record["target"]["index"]) != stated.record["target"]["label"]:
        found.append(
            Finding("class", None, f"the network has no name for it; the proof says {brief(stated.record['target']['label'])}")
        )
    found.append(Finding("input", True if fits else None if known else False, words))
    found += _compared(stated, e, "")
    if double:
        wide = copy.deepcopy(network).double()
        within = None if classifier is None else Classifier(wide, classifier.card)
        found += _compared(stated, _explained(stated, wide, within, picture, x, value_range), " in float64")
    return found


class _Differs(Exception):
    """What makes it pointless to compute."""

    def __init__(self, what: str, said: str) -> None:
        super().__init__(said)
        self.finding = Finding(what, False, said)


def _of_file(stated: Stated, picture: Path) -> list[Finding]:
    said = stated.record["picture"]
    if said is None:
        return []
    same = file_hash(picture) == said["sha256"]
    return [Finding("file", True if same else None, "the same bytes" if same else f"not the bytes of {brief(said['name'])}")]


def _explained(
    stated: Stated, network: nn.Module, classifier: Classifier | None, picture: str | Path | None, x: Tensor | None,
    value_range: Range | None,
) -> Explanation:  # fmt: skip
    """The explanation of what the proof names.

    Raises:
        _Differs: the network has no such class, or cannot be asked so.
        InputError: a picture for a network that takes none.
    """
    record = stated.record
    index, other = record["target"]["index"], record["contrast"]
    if classifier is not None:
        _check_class(classifier, record["target"])
        if other is not None:
            _check_class(classifier, other)
    asked: dict[str, Any] = {"contrast": None if other is None else other["index"], "products": record["options"]["products"]}
    try:
        if picture is not None:
            if classifier is None:
                raise InputError("A network alone takes no picture: give input=…, or a model with its preprocessing.")
            mine = _prepared(classifier, record["preprocess"])
            return mine.explain([picture], [[index]], value_range=value_range, **asked)
        assert x is not None
        x = x.unsqueeze(0) if x.dim() == len(record["input"]["shape"]) else x
        if list(x.shape) != [1, *record["input"]["shape"]]:
            raise InputError(f"The input is (1, {', '.join(map(str, record['input']['shape']))}), not {tuple(x.shape)}.")
        like = next((p for p in network.parameters() if p.is_floating_point()), x)
        x = x.to(like.device, like.dtype)
        return explain_through(network, None, x, index, output=record["options"]["output"], **asked)
    except InputError:
        raise
    except BcosError as error:
        raise _Differs("explanation", str(error)) from error


def _check_class(classifier: Classifier, said: Mapping[str, Any]) -> None:
    names = classifier.class_names
    if said["index"] >= len(names):
        raise _Differs("class", f"this network has {len(names):,} classes, and none of number {said['index']}")
    if names[said["index"]] != said["label"]:
        mine = brief(names[said["index"]])
        raise _Differs("class", f"number {said['index']} is {mine} here, and the proof calls it {brief(said['label'])}")


def _prepared(classifier: Classifier, said: Mapping[str, Any] | None) -> Classifier:
    """The classifier with the cut of the picture that the proof states.

    Raises:
        _Differs: something else of its preprocessing is another.
    """
    mine = Preprocess.from_dict(classifier.card.preprocess or {}).to_dict()
    try:
        theirs = Preprocess.from_dict(said or {}).to_dict()
    except BcosError as error:
        raise _Differs("preprocessing", str(error)) from None
    others = [name for name in mine if mine[name] != theirs.get(name) and name != "fit"]
    if others:
        raise _Differs("preprocessing", f"{', '.join(others)} are others here")
    return classifier.fitted(theirs.get("fit"))


def _compared(stated: Stated, e: Explanation, how: str) -> list[Finding]:
    """Value, constants and map beside those of the proof."""
    record, map_ = stated.record, stated.map
    value, constants = float(e.values[0, 0]), {name: float(c[0, 0]) for name, c in e.constants.items()}
    size = max(1.0, abs(value), 0.1 * (float(e.contributions[0, 0].double().abs().sum()) + sum(map(abs, constants.values()))))
    allowed, most = max(min(record["tolerance"], _coarsest(record)), e.tolerance or 0.0), _MOST_MAP[_coarsest(record) > _TF32]
    found = [_value(record, e, value, size, allowed, how), *_shares(record, e, allowed * size, how)]
    strange = sorted(constants.keys() ^ record["constants"].keys())
    if strange:
        found.append(Finding(f"constants{how}", False, f"not the same names: {', '.join(map(brief, strange[:3]))}"))
    elif constants:
        apart = max(abs(constants[name] - record["constants"][name]) for name in constants)
        found.append(Finding(f"constants{how}", apart <= allowed * size, _digits(apart, size)))
    mine = e.contributions[0, 0].detach().double().cpu().numpy()
    if mine.shape != map_.shape:
        return [*found, Finding(f"map{how}", False, f"it is {mine.shape} here, and {map_.shape} in the proof")]
    whole = max(float(np.abs(mine).sum()), 1e-300)
    apart = float(np.abs(mine - map_).sum())
    agrees = apart <= min(_MAP * allowed + _HALF_MAP, most) * whole
    said = _digits(apart, whole) if agrees else f"{min(apart / whole, 9.99):.0%} of its magnitude lies elsewhere"
    return [*found, Finding(f"map{how}", agrees, said)]


def _shares(record: Mapping[str, Any], e: Explanation, allowed: float, how: str) -> list[Finding]:
    """What the pixels carry, and which constants are left aside in that."""
    apart, share = abs(float(e.total[0, 0]) - record["contribution"]), float(e.share[0, 0])
    found = [
        Finding(f"pixels{how}", apart <= allowed, f"{float(e.total[0, 0]):.4f}, and the proof says {record['contribution']:.4f}")
    ]
    same = set(e.fixed) == set(record["fixed"]) and math.isfinite(share) == (record["share"] is not None)
    close = same and (record["share"] is None or abs(share - record["share"]) <= 2e-2 * max(1.0, abs(share)))
    said = f"{share:.1%} here" if math.isfinite(share) else "none here: the terms cancel"
    if not close:
        claimed = "none" if record["share"] is None else f"{record['share']:.1%}"
        found.append(
            Finding(f"share{how}", False, f"{said}, and the proof says {claimed}, leaving {len(record['fixed'])} constants aside")
        )
    return [one for one in found if one.agrees is False]


def _coarsest(record: Mapping[str, Any]) -> float:
    """What numbers of the stated kind may be off by at most: whoever wrote the file does not choose how far is near."""
    kind = record["input"]["dtype"]
    return _TF32 if kind == "float32" else usual_tolerance(getattr(torch, kind))


def _value(record: Mapping[str, Any], e: Explanation, value: float, size: float, allowed: float, how: str) -> Finding:
    apart = abs(value - record["value"])
    if apart <= allowed * size:
        return Finding(f"logit{how}", True, f"{value:.4f}, {_digits(apart, size)}")
    said = f"{value:.4f} here, {record['value']:.4f} in the proof"
    if record["contrast"] is None:
        gaps = (e.outputs[0].detach().double().cpu() - record["value"]).abs()
        best = int(gaps.argmin())
        if float(gaps[best]) <= allowed * size:
            said += f", which is the logit of another class: {brief(e.label(best))}"
    return Finding(f"logit{how}", False, said)


def _digits(apart: float, whole: float) -> str:
    if not apart < whole:
        return "not to one digit"
    digits = math.floor(_CLOSEST if apart <= whole * 10**-_CLOSEST else -math.log10(apart / whole))
    return f"to {digits} digit{'s' if digits != 1 else ''}"
