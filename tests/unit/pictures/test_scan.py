"""What a scan holds."""

from __future__ import annotations

import torch

from torchbcos.pictures import Scan


def test_a_scan_without_facts_has_none() -> None:
    assert Scan(pixels=torch.zeros(1, 2, 2)).facts == {}
