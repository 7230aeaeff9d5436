"""What a scan holds."""

from __future__ import annotations

import torch

from torchbcos.pictures import Scan


def test_a_scan_without_facts_has_none() -> None:
    assert Scan(pixels=torch.zeros(1, 2, 2)).facts == {}


def test_what_is_printed_of_a_scan_is_one_line() -> None:
    assert repr(Scan(pixels=torch.zeros(1, 20, 30), facts={"unit": "HU"})) == "Scan of 1 x 20 x 30, 1 facts"
