"""Prototypes: their slow twin, sums by prototype, and projection onto training examples."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import torchbcos
from tests.reference import windows as slow
from torchbcos import nn as bnn
from torchbcos._core.errors import InputError


def head_of(seed: int, places: int, b: float = 2.0, per_class: int = 2) -> bnn.Prototypes:
    torch.manual_seed(seed)
    return bnn.Prototypes(5, 3, per_class, places=places, b=b).double().eval()


@given(seed=st.integers(0, 10_000), places=st.sampled_from([0, 4]), b=st.sampled_from([1.0, 1.5, 2.0]), weighted=st.booleans())
def test_prototypes_are_their_slow_twin(seed: int, places: int, b: float, weighted: bool) -> None:
    head = head_of(seed, places, b)
    tokens = torch.randn(2, 4, 5, dtype=torch.float64)
    weight = torch.rand(2, 4, dtype=torch.float64) if weighted else torch.full((2, 4), 0.25, dtype=torch.float64)
    vectors = head.similarity.weight.detach().reshape(-1, 3, 2, 5).expand(4, -1, -1, -1)
    expected = slow.prototypes(tokens, vectors, weight, b)
    found = head.by_prototype(tokens, weight if weighted else None)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(head(tokens, weight if weighted else None), expected.sum(-1), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("places", [0, 4])
def test_prototypes_keep_the_laws(places: int) -> None:
    head = head_of(1, places)
    torchbcos.testing.check_layer(head.similarity, torch.randn(2, 4, 5, dtype=torch.float64))
    torchbcos.testing.check_layer(head, torch.randn(2, 4, 5, dtype=torch.float64))


class Compares(nn.Module):
    """Pixels as tokens, and prototypes."""

    def __init__(self, head: bnn.Prototypes) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(x.flatten(2).transpose(1, 2))
        return scores


@given(seed=st.integers(0, 10_000), places=st.sampled_from([0, 4]))
def test_a_score_is_the_sum_of_its_prototypes_pixel_by_pixel(seed: int, places: int) -> None:
    model = Compares(head_of(seed, places)).eval()
    x = torch.rand(1, 5, 2, 2, dtype=torch.float64)
    whole = torchbcos.explain(model, x, 1)
    parts = [torchbcos.explain(model, x, 2 + k, at="head.similarity") for k in range(2)]
    total = sum((e.contributions for e in parts), torch.zeros(1, 1, 2, 2).double()) / 4  # of four places the mean
    torch.testing.assert_close(total, whole.contributions, rtol=1e-10, atol=1e-12)
    by_prototype = model.head.by_prototype(x.flatten(2).transpose(1, 2))
    torch.testing.assert_close(by_prototype[0, 1], torch.stack([e.values[0, 0] / 4 for e in parts]), rtol=1e-10, atol=1e-12)
    assert float(whole.residual.abs().max()) < 1e-12


@given(seed=st.integers(0, 10_000), places=st.sampled_from([0, 4]))
def test_projection_takes_the_nearest_examples_each_once(seed: int, places: int) -> None:
    head = head_of(seed, places)
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(12, 4, 5, generator=generator, dtype=torch.float64)
    labels = torch.arange(12) % 3
    before = head.similarity.weight.detach().clone().reshape(-1, 3, 2, 5)
    head.project(tokens, labels)
    after = head.similarity.weight.detach().reshape(-1, 3, 2, 5)
    for place in range(max(1, places)):
        for c in range(3):
            chosen = head.examples[place, c].tolist()
            assert len(set(chosen)) == 2 and all(labels[m] == c for m in chosen)
            free = [int(m) for m in range(12) if labels[m] == c]
            for k, m in enumerate(chosen):
                old = before[place, c, k]
                there = {m: tokens[m, place : place + 1] if places else tokens[m] for m in free}
                likeness = {m: max(float(torch.cosine_similarity(z, old, dim=0)) for z in zs) for m, zs in there.items()}
                assert likeness[m] == max(likeness.values())
                assert any(torch.equal(after[place, c, k], z) for z in there[m])
                free.remove(m)


def test_a_class_with_too_few_examples_is_named() -> None:
    head = head_of(0, 0)
    kept = head.similarity.weight.detach().clone()
    with pytest.raises(InputError, match="class 2 has 1, and labels go up to 2"):
        head.project(torch.randn(5, 4, 5).double(), torch.tensor([0, 0, 1, 1, 2]))
    with pytest.raises(InputError, match=r"labels \(M,\)"):
        head.project(torch.randn(5, 4, 5).double(), torch.zeros(4, dtype=torch.int64))
    assert torch.equal(head.similarity.weight, kept) and bool((head.examples == -1).all())
    with pytest.raises(InputError, match=r"tokens \(N, 4, 5\)"):
        head_of(0, 4)(torch.zeros(1, 3, 5).double())


def test_what_is_not_there_is_nobodys_example() -> None:
    head = head_of(3, 4)
    tokens, labels = torch.randn(9, 4, 5, dtype=torch.float64), torch.arange(9) % 3
    tokens[labels == 1, 2] = 0  # of class 1 nobody has place 2
    tokens[0, 1] = 0  # one of class 0 lacks place 1
    before = head.similarity.weight.detach().clone().reshape(4, 3, 2, 5)
    head.project(tokens, labels)
    after = head.similarity.weight.detach().reshape(4, 3, 2, 5)
    assert head.examples[2, 1].tolist() == [-1, -1] and torch.equal(after[2, 1], before[2, 1])
    assert 0 not in head.examples[1, 0].tolist() and bool((after.norm(dim=-1) > 0).all())
    assert int((head.examples < 0).sum()) == 2


@pytest.mark.parametrize(("tokens", "labels", "text"), [
    (torch.rand(6, 4, 5), torch.arange(6.0) % 3, "Labels are whole numbers from 0"),
    (torch.rand(6, 4, 5), torch.arange(6) % 3 - 1, "Labels are whole numbers from 0"),
    (torch.rand(6, 4, 5), torch.ones(6, dtype=torch.bool), "Labels are whole numbers"),
    (torch.rand(0, 4, 5), torch.arange(0), r"got \(0, 4, 5\)"), (torch.rand(6, 0, 5), torch.arange(6) % 3, r"got \(6, 0, 5\)"),
    (torch.ones(6, 4, 5, dtype=torch.int64), torch.arange(6) % 3, "floating-point tokens"),
    (torch.full((6, 4, 5), torch.nan), torch.arange(6) % 3, "NaN or infinite"),
])  # fmt: skip
def test_projection_says_what_it_takes(tokens: Tensor, labels: Tensor, text: str) -> None:
    head = head_of(0, 0)
    with pytest.raises(InputError, match=text):
        head.project(tokens, labels)
    head.project(torch.rand(6, 4, 5), [0, 1, 2, 0, 1, 2])  # type: ignore[arg-type]


def test_weights_and_sizes_are_checked() -> None:
    head = head_of(0, 0)
    for weight in (torch.ones(3), [1, 2, 3, 4]):
        with pytest.raises(InputError, match=r"a weight for each of 4 places, \(T,\) or \(N, T\)"):
            head(torch.rand(2, 4, 5).double(), weight)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"tokens \(N, T, 5\)"):
        head(torch.rand(2, 0, 5).double())
    for sizes in ({"per_class": 1.5}, {"places": None}, {"num_classes": 0}):
        with pytest.raises(InputError, match="must be a whole number from"):
            bnn.Prototypes(**{"features": 5, "num_classes": 3, **sizes})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["bvt_tiny_patch16", "bwin_tiny"])
def test_networks_with_prototypes_save_load_and_explain(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    torch.manual_seed(0)
    shallow = {"depth": 1} if name.startswith("bvt") else {}
    model = torchbcos.create_model(name, num_classes=3, prototypes=2, **shallow).eval()
    x = torchbcos.functional.add_inverse(torch.rand(2, 3, 32, 32))
    tokens = model.get_submodule(model.classifier_name.rpartition(".")[0]).norm(model.forward_features(x).flatten(1, 2))
    head = model.classifier_layer()
    assert isinstance(head, bnn.Prototypes)
    head.project(tokens.detach().repeat(3, 1, 1), torch.arange(6) % 3)
    assert bool((head.examples >= 0).all())
    folder = tmp_path_factory.mktemp("model")
    torchbcos.save(model, folder)
    again = torchbcos.load(folder, deploy=False).model
    torch.testing.assert_close(again(x), model(x), rtol=1e-6, atol=1e-6)
    assert torch.equal(again.classifier_layer().examples, head.examples)
    e = torchbcos.explain(torchbcos.deploy(model), x)
    assert float(e.residual.abs().max()) <= 1e-5
