"""What a run says of itself: numbers that are there."""

from __future__ import annotations

from dataclasses import replace

from torchbcos.training.progress import Lines, Progress, summary


def test_numbers_that_are_none_are_not_said() -> None:
    assert summary({"report": {"map": float("nan"), "f1": 12.5}}) == "f1 at 0.5 12.50 % on the reported split"
    assert summary({"selection": {"top1": float("nan")}}) == "nothing was held out to judge by"


def test_a_line_now_and_then() -> None:
    said: list[str] = []
    now = Progress(3, 40, 1, 2, 0.5, 80.2, 300.0, 61.0)
    for every, done, lines in ((0, 3, 1), (0, 40, 0), (3600, 3, 0)):
        said.clear()
        Lines(said.append, every)(replace(now, done=done))
        assert len(said) == lines
