"""What a run says of itself: numbers that are there."""

from __future__ import annotations

from torchbcos.training.progress import summary


def test_numbers_that_are_none_are_not_said() -> None:
    assert summary({"report": {"map": float("nan"), "f1": 12.5}}) == "f1 at 0.5 12.50 % on the reported split"
    assert summary({"selection": {"top1": float("nan")}}) == "nothing was held out to judge by"
