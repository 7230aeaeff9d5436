"""What became of each layer of a converted network, and where the constants of its logits sit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from torchbcos._core.letters import printable
from torchbcos.conversion.checking import kind_of
from torchbcos.conversion.steps import Step

__all__ = ["Line", "Report", "percent"]

_HEAD = ("layer", "was", "became", "B", "biases", "constants, %", "fit, %")


@dataclass(frozen=True)
class Line:
    """One layer.

    Attributes:
        path: its name.
        was: what stood there.
        became: what stands there now, in words; a norm that a layer took in has no line of its own.
        role: what it does in the network.
        b: exponent B; None where it has none.
        biases: rule of its bias; "" where it has none.
        fit: share of the variance of the given network's values that it gives after calibration; None where it was not fitted.
        constant: part of its constants in all magnitudes of the highest logit.
    """

    path: str
    was: str
    became: str
    role: str
    b: float | None
    biases: str
    fit: float | None
    constant: float


@dataclass(frozen=True)
class Report:
    """A conversion in numbers; `print` shows it as a table, so does a notebook.

    Attributes:
        lines: a layer each, in the order in which they run.
        steps: what was done, as a card holds it.
        share: median share of the input in the highest logit (1: no constant).
        constants: name of each constant that is left, and its part of all magnitudes of the highest logit.
        residual: largest |logit - contributions - constants|.
        kept: largest difference of logits to the given network, in units of their range.
        noise: whether the network was fitted to noise, as no example was given.
        examples: how many pictures it was fitted to.
        never_ran: layers of the given network that did not run, and stand as they were.
        stayed: modules that ran and stayed linear, as no layer of ours gives what their convolution or linear map gives.
        elsewhere: layers whose weights a function of another module used: they stayed linear.
        zeroed: biases that no layer of ours could take over, and that were set to zero.
        operations: (operation, module, kind, rule, count) of what is held in the explanation.
        settings: of the conversion.
    """

    lines: tuple[Line, ...]
    steps: tuple[Step, ...]
    share: float
    constants: Mapping[str, float]
    residual: float
    kept: float
    noise: bool
    examples: int
    never_ran: tuple[str, ...] = ()
    stayed: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    zeroed: tuple[str, ...] = ()
    operations: tuple[tuple[str, str, str, str, int], ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kinds(self) -> dict[str, float]:
        """Part of the constants by kind: "bias", "position", "token"."""
        found: dict[str, float] = {}
        for name, share in self.constants.items():
            found[kind_of(name)] = found.get(kind_of(name), 0.0) + share
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it; no number that is none."""
        found = asdict(self) | {"steps": [step.to_dict() for step in self.steps], "kinds": self.kinds}
        return {"schema": 1, **found, "share": self.share if self.share == self.share else None}

    def sentences(self) -> list[str]:
        """What a reader should know first."""
        kinds = ", ".join(f"{kind} {share:.1%}" for kind, share in sorted(self.kinds.items(), key=lambda item: -item[1]))
        if self.share != self.share:
            told = ["Nothing reaches the logits of the examples: they are 0. Give other pictures, or keep the biases."]
        else:
            seen = min(self.examples, 8)
            of = "one example" if seen == 1 else f"median of {seen} examples"
            told = [f"The input carries {self.share:.3f} of the highest logit ({of})."]
        told += [f"Constants that are left, of all magnitudes: {kinds}."] if kinds else ["No constant is left."]
        made = [] if self.settings.get("biases") == "keep" else [name for name in self.constants if kind_of(name) == "bias"]
        if made:
            told += [
                f"Constants that no layer of ours could take over: {_listed(made)}. They are made where an activation is not 0 "
                "at 0, or the network normalises or pads its input itself: take that out, and give mean and std."
            ]
        if self.kept <= 1e-4 and self.settings.get("calibrated"):
            told += ["Logits of the examples are the given network's; layers were fitted to these, so others will differ more."]
        elif self.kept <= 1e-4:
            told += [f"The function is the given network's (logits differ by {self.kept:.1e} of their range)."]
        else:
            far = f"up to {self.kept:.0%}" if self.kept >= 0.01 else "less than 1%"
            told += [f"Logits differ by {far} of their range from the given network's: align or fine-tune it."]
        if not any(line.role for line in self.lines):
            told += ["No layer was replaced: code outside of layers uses their weights, so that the network stays what it was."]
        if self.noise and self.settings.get("calibrated"):
            told += ["Layers were fitted to noise: give pictures (example=…), a few dozen of the kind that the network is for."]
        if self.settings.get("border") == "repeat" and any(step.kind == "decode" for step in self.steps):
            told += ["border='repeat' did nothing: the first layer does not take the input alone, so it is decoded before it."]
        for names, words in (
            (self.never_ran, "did not run, and stayed as they were"),
            (self.stayed, "stayed linear: no layer of ours gives what they give"),
            (self.elsewhere, "stayed linear: their weights are used elsewhere"),
            (self.zeroed, "are biases that were set to zero"),
        ):  # fmt: skip
            if names:
                told.append(f"{_listed(names)} {words}.")
        return told

    def __str__(self) -> str:
        rows = [_HEAD, *(_shown(line) for line in self.lines)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
        table = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([*table, *self.sentences()])

    __repr__ = __str__

    def __rich__(self) -> Group:
        """The same for a terminal, as `rich` draws it."""
        table = Table(box=None, pad_edge=False)
        for name in _HEAD:
            table.add_column(name, justify="right" if name in ("B", "constants, %", "fit, %") else "left", overflow="fold")
        for line in self.lines:
            table.add_row(*(Text(word) for word in _shown(line)))
        return Group(table, *(Text(sentence) for sentence in self.sentences()))


def _listed(names: Sequence[str]) -> str:
    """A few names, and how many more there are.

    >>> _listed(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    return ", ".join(name or "the network itself" for name in names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")


def percent(fit: float) -> str:
    """A fit in percent; far below nothing, how far says nothing more.

    >>> percent(0.5), percent(-1000.0)
    ('50', '< -999')
    """
    return f"{100 * fit:.0f}" if fit > -9.99 else "< -999"


def _shown(line: Line) -> tuple[str, ...]:
    b = "" if line.b is None else f"{line.b:g}"
    fit = "" if line.fit is None else percent(line.fit)
    constant = f"{100 * line.constant:.1f}" if line.constant else ""
    return printable(line.path) or "(network)", line.was, line.became, b, line.biases, constant, fit
