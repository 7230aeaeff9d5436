"""Attention with masks and score biases: its slow twin, exact zeros, gradients of masks, and what is held."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from tests.reference import windows as slow
from torchbcos import functional
from torchbcos import nn as bnn
from torchbcos._core.errors import BcosError
from torchbcos._core.frozen import frozen


def drawn(seed: int, n: int, heads: int, count: int, d: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Queries, keys, values."""
    generator = torch.Generator().manual_seed(seed)
    return [2 * torch.randn(n, heads, count, d, generator=generator, dtype=dtype) for _ in range(3)]


def drawn_mask(seed: int, shape: tuple[int, ...], form: str) -> Tensor:
    """True and False, or numbers with zeros among them."""
    generator = torch.Generator().manual_seed(seed)
    seen = torch.rand(shape, generator=generator) < 0.6
    return seen if form == "bool" else seen * torch.rand(shape, generator=generator, dtype=torch.float64)


SIZES = {"seed": st.integers(0, 10_000), "n": st.integers(1, 2), "heads": st.integers(1, 2), "count": st.integers(1, 5)}


@given(**SIZES, form=st.sampled_from(["none", "bool", "numbers"]), biased=st.booleans(), keys_only=st.booleans())
def test_attention_is_its_slow_twin(
    seed: int, n: int, heads: int, count: int, form: str, biased: bool, keys_only: bool
) -> None:  # fmt: skip
    query, key, value = drawn(seed, n, heads, count, 3)
    whole = (n, heads, count, count)
    mask = None if form == "none" else drawn_mask(seed, (n, 1, 1 if keys_only else count, count), form)
    bias = torch.randn(heads, count, count, dtype=torch.float64) if biased else None
    found = functional.attention(query, key, value, mask=mask, score_bias=bias)
    ones = torch.ones(whole, dtype=torch.float64)
    given_mask = ones if mask is None else mask.double().expand(whole)
    expected = slow.attention(query, key, value, given_mask, torch.zeros(whole) if bias is None else bias.expand(whole))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@given(seed=st.integers(0, 10_000), form=st.sampled_from(["bool", "numbers"]))
def test_what_is_masked_acts_on_nothing(seed: int, form: str) -> None:
    query, key, value = drawn(seed, 2, 2, 5, 4, torch.float32)
    mask = drawn_mask(seed, (2, 1, 1, 5), form).to(torch.bool if form == "bool" else torch.float32)
    hidden = (mask == 0)[:, 0, 0]
    key2, value2 = key.clone(), value.clone()
    for image in range(2):
        key2[image][:, hidden[image]] = 1e3
        value2[image][:, hidden[image]] = -1e6
    first = functional.attention(query, key, value, mask=mask)
    assert torch.equal(first, functional.attention(query, key2, value2, mask=mask))
    leaf = value.clone().requires_grad_()
    with frozen():
        functional.attention(query, key, leaf, mask=mask).sum().backward()
    assert leaf.grad is not None
    assert all(bool((leaf.grad[i][:, hidden[i]] == 0).all()) for i in range(2))
    assert all(bool((leaf.grad[i][:, ~hidden[i]] > 0).any()) or bool(hidden[i].all()) for i in range(2))


def test_a_query_that_sees_nothing_takes_nothing() -> None:
    query, key, value = drawn(0, 1, 1, 3, 2)
    for mask in (torch.zeros(1, 1, 3, 3, dtype=torch.bool), torch.zeros(1, 1, 3, 3, dtype=torch.float64)):
        mask[..., 1, 0] = 1
        found = functional.attention(query, key, value, mask=mask)
        assert torch.equal(found[0, 0, 1], value[0, 0, 0]) and not found[0, 0, 0].any() and not found[0, 0, 2].any()


@given(seed=st.integers(0, 10_000))
def test_a_hard_mask_has_the_gradient_of_its_numbers(seed: int) -> None:
    query, key, value = drawn(seed, 1, 2, 4, 3)
    query = query / 8  # scores of a size at which differences can be taken
    mask = drawn_mask(seed, (1, 1, 1, 4), "bool").double()
    mask[..., seed % 4] = 1  # something is seen
    assert torch.autograd.gradcheck(lambda m: functional.attention(query, key, value, mask=m), (mask + 0.5).requires_grad_())
    leaf = mask.clone().requires_grad_()
    functional.attention(query, key, value, mask=leaf)[..., 0].sum().backward()
    assert leaf.grad is not None and bool(leaf.grad.isfinite().all())
    step = 1e-7  # at 0 from above, since a mask is not negative
    for j in range(4):
        more = mask.clone()
        more[..., j] += step
        change = functional.attention(query, key, value, mask=more) - functional.attention(query, key, value, mask=mask)
        torch.testing.assert_close(change[..., 0].sum() / step, leaf.grad[0, 0, 0, j], rtol=1e-4, atol=1e-4)


def test_scores_that_are_hidden_do_not_overflow() -> None:
    query = torch.full((1, 1, 1, 1), 1e4, requires_grad=True)
    key, value = torch.tensor([[[[1.0], [-1.0]]]]), torch.tensor([[[[7.0], [3.0]]]])
    mask = torch.tensor([[[[0.0, 1.0]]]], requires_grad=True)
    found = functional.attention(query, key, value, mask=mask)
    found.sum().backward()
    assert float(found.detach()) == 3 and mask.grad is not None and bool(mask.grad.isfinite().all())


@pytest.mark.parametrize("form", ["bool", "numbers"])
def test_queries_keys_mask_and_bias_are_held(form: str) -> None:
    query, key, value = (t.requires_grad_() for t in drawn(1, 1, 2, 4, 3))
    mask = drawn_mask(3, (1, 1, 4, 4), form)
    mask = mask if form == "bool" else mask.requires_grad_()
    bias = torch.zeros(2, 4, 4, dtype=torch.float64, requires_grad=True)
    free = functional.attention(query, key, value, mask=mask, score_bias=bias)
    moved = torch.autograd.grad(free.sum(), [query, key, bias, *([mask] if form == "numbers" else [])])
    assert all(bool(g.any()) for g in moved)  # outside they have gradients
    with frozen():
        out = functional.attention(query, key, value, mask=mask, score_bias=bias)
    torch.testing.assert_close(out, free, rtol=1e-12, atol=1e-12)
    out.sum().backward()
    assert value.grad is not None and all(t.grad is None for t in (query, key, mask, bias))
    torch.testing.assert_close(torch.autograd.functional.jvp(
        lambda v: functional.attention(query, key, v, mask=mask, score_bias=bias), value.detach(), value.detach()
    )[1], out.detach())  # fmt: skip  # linear in the values


@pytest.mark.parametrize("form", ["bool", "numbers"])
@pytest.mark.parametrize("shape", [(), (1,), (4,), (4, 4), (2, 4, 4), (1, 1, 1, 4), (3, 1, 4, 1)], ids=str)
def test_masks_and_biases_broadcast(shape: tuple[int, ...], form: str) -> None:
    query, key, value = drawn(2, 3, 2, 4, 3)
    mask, bias = drawn_mask(1, shape, form), torch.randn(shape, dtype=torch.float64)
    found = functional.attention(query, key, value, mask=mask, score_bias=bias)
    whole = (3, 2, 4, 4)
    expected = slow.attention(query, key, value, mask.double().expand(whole), bias.expand(whole))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_neither_overflows_nor_forgets_small_masks(dtype: torch.dtype) -> None:
    query, key = torch.tensor([[4.0]]), torch.tensor([[4.0], [0.0]])
    value = torch.tensor([[7.0], [3.0]])
    parts = [t.view(1, 1, -1, 1).to(dtype) for t in (query, key, value)]
    assert float(functional.attention(*parts, mask=torch.tensor([0.0, 1.0], dtype=dtype))) == 3
    large = torch.full((1, 1, 2, 4), 300.0, dtype=dtype)
    same = functional.attention(large, large, parts[2].expand(1, 1, 2, 1), mask=torch.ones(2, dtype=dtype))
    assert same.flatten().tolist() == [5, 5]
    none = torch.zeros(1, 1, 2, 1, dtype=dtype)
    assert functional.attention(none, none, parts[2], mask=torch.full((2,), 1e-8)).flatten().tolist() == [5, 5]


def test_what_is_below_0_counts_as_0() -> None:
    query, key, value = drawn(4, 1, 1, 3, 2)
    mask = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    found = functional.attention(query, key, value, mask=mask)
    assert torch.equal(found, functional.attention(query, key, value, mask=mask.clamp_min(0)))
    assert not functional.attention(query, key, value, mask=-torch.ones(3, dtype=torch.float64)).any()


@pytest.mark.parametrize("form", ["none", "bool", "numbers"])
def test_explanations_of_masked_attention_have_gradients(form: str) -> None:
    torch.manual_seed(0)
    layer = bnn.Attention(6, 2, head_dim=4).double().eval()
    mask = None if form == "none" else drawn_mask(1, (2, 5), form)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x.transpose(1, 2), mask).mean(1)
            return out

    for create_graph in (True, "truncated"):
        x = torch.randn(2, 6, 5, dtype=torch.float64, requires_grad=True)
        e = torchbcos.explain(Net(), x, 1, create_graph=create_graph)
        (g,) = torch.autograd.grad(e.contributions.square().sum(), x)
        assert bool(g.isfinite().all()) and bool(g.any())


def test_transforms_of_torch_reach_biases_and_masks() -> None:
    query, key, value = drawn(5, 1, 2, 4, 3)
    bias = torch.randn(1, 2, 4, 4, dtype=torch.float64)

    def total(b: Tensor) -> Tensor:
        return functional.attention(query, key, value, score_bias=b).square().sum()

    (expected,) = torch.autograd.grad(total(leaf := bias.clone().requires_grad_()), leaf)
    torch.testing.assert_close(torch.func.grad(total)(bias), expected)


@pytest.mark.parametrize(("given", "text"), [
    ({"mask": torch.ones(1, 1, 2, 2, dtype=torch.int64)}, r"use mask\.bool\(\)"),
    ({"mask": torch.ones(3, dtype=torch.bool)}, r"A mask must broadcast to the scores, \(1, 1, 2, 2\): got shape \(3,\)"),
    ({"mask": torch.ones(3, 1, 2, 2)}, r"got shape \(3, 1, 2, 2\)"), ({"mask": [True, False]}, "A mask is a tensor, not list"),
    ({"score_bias": torch.ones(1, 1, 1, 2, 2)}, "A score bias must broadcast"),
])  # fmt: skip
def test_other_masks_are_refused(given: dict[str, Any], text: str) -> None:
    query, key, value = drawn(0, 1, 1, 2, 2)
    with pytest.raises(BcosError, match=text):
        functional.attention(query, key, value, **given)


def test_nothing_to_see_is_nothing() -> None:
    empty = torch.zeros(1, 2, 0, 3)
    assert functional.attention(empty, empty, empty, mask=torch.ones(1, 1, 1, 0)).shape == empty.shape
