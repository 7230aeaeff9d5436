"""Divisions that keep together what belongs together."""

from __future__ import annotations

from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from torchbcos.data.division import split_groups


@given(
    examples=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3)), min_size=1, max_size=60),
    share=st.floats(0.01, 0.6), seed=st.integers(0, 9), wide=st.booleans(),
)  # fmt: skip
def test_no_group_is_on_both_sides(examples: list[tuple[int, int]], share: float, seed: int, wide: bool) -> None:
    groups, classes = [g for g, _ in examples], [c for _, c in examples]
    targets = torch.nn.functional.one_hot(torch.tensor(classes)).float() if wide else torch.tensor(classes)
    rest, held = split_groups(targets, share, seed, groups)
    assert sorted(rest + held) == list(range(len(examples))) and (rest, held) == split_groups(targets, share, seed, groups)
    assert not {groups[i] for i in rest} & {groups[i] for i in held}
    classes = [0] * len(classes) if wide else classes
    left, out = Counter(classes[i] for i in rest), Counter(classes[i] for i in held)
    for c in set(classes):
        assert left[c]  # each class can be learned
        if not out[c]:  # each group of it would have taken the last of some class
            for g in {groups[i] for i in range(len(groups)) if classes[i] == c} - {groups[i] for i in held}:
                part = Counter(classes[i] for i in rest if groups[i] == g)
                assert any(part[d] == left[d] for d in part) or sum(classes[i] == c for i in range(len(classes))) == 1


def test_the_shares_are_about_those_that_were_asked_for() -> None:
    generator = torch.Generator().manual_seed(0)
    groups = torch.arange(60).repeat_interleave(10)
    targets = (torch.rand(600, generator=generator) < torch.rand(60, generator=generator)[groups]).long()
    for seed in range(5):
        _, held = split_groups(targets, 0.2, seed, groups.tolist())
        for c, count in enumerate(targets.bincount().tolist()):
            assert abs(int((targets[held] == c).sum()) - 0.2 * count) < 20  # two groups
    assert split_groups(targets, 0.0, 0, groups.tolist())[1] == []
