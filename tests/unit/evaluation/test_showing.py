from __future__ import annotations

import math

import torch

from torchbcos.evaluation.showing import _averages


def test_averages_go_from_the_best_items_to_the_worst_whichever_way_is_good() -> None:
    scores = torch.tensor([*(i / 40 for i in range(39)), math.nan])
    maps = torch.zeros(40, 2, 20).reshape(40, 40)
    maps[torch.arange(40), torch.arange(40)] = -1.0  # which map is which can be seen
    high, low = (list(_averages(maps.view(40, 2, 20), scores, low)) for low in (False, True))
    assert high[0].bin.items[0] == 38 and low[0].bin.items[0] == 0
    assert high[-1].bin.items[-1] == low[-1].bin.items[-1] == 39  # undefined
    assert low[0].low == 0.0 and high[0].high == scores[38]
    assert all(math.isnan(one.low) or one.low <= one.high for one in high + low)
    items = [int(i) for one in high for i in one.bin.items]
    assert sorted(items) == list(range(40))
    assert all((one.bin.map.flatten().nonzero().flatten() == one.bin.items.sort().values).all() for one in high)  # type: ignore[union-attr]
