"""A classifier that compares: the score of a class is how like its stored examples the features are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torchbcos import functional
from torchbcos._core.errors import InputError
from torchbcos._core.frozen import hold
from torchbcos.functional.numbers import check_whole
from torchbcos.nn.filters import exponent, shown
from torchbcos.nn.layer import Layer

__all__ = ["Prototypes", "Similarity"]


class Similarity(Layer):
    """How like each of a number of vectors a token is: `functional.similarity`.

    Args:
        features: D of the tokens.
        count: K, number of vectors.
        places: 0: every token is compared with the same vectors; T: there are T tokens, and each place has vectors of its own.
        b: exponent B ≥ 1.

    Raises:
        InputError: a number is out of range.

    >>> Similarity(8, 6)(torch.randn(2, 5, 8)).shape
    torch.Size([2, 5, 6])
    """

    channel_dim = -1

    def __init__(self, features: int, count: int, *, places: int = 0, b: float = 2.0) -> None:
        super().__init__()
        features, count = check_whole(features, "features"), check_whole(count, "count")
        places = check_whole(places, "places", least=0)
        self.features, self.places, self.b = features, places, exponent(b, False)
        self.weight = nn.Parameter(torch.empty(*([places] if places else []), count, features))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fresh vectors of random directions."""
        nn.init.normal_(self.weight)

    def compute(self, x: Tensor) -> Tensor:
        """Map (N, T, D) to (N, T, K)."""
        if x.dim() != 3 or x.shape[-1] != self.features or x.shape[1] != (self.places or max(1, x.shape[1])):
            raise InputError(f"Expected tokens (N, {self.places or 'T'}, {self.features}), got shape {tuple(x.shape)}.")
        return functional.similarity(x, self.weight, b=self.b)

    def extra_repr(self) -> str:
        """Sizes and exponent."""
        return f"{self.features}, {self.weight.shape[-2]}, places={self.places}, b={shown(self.b)}"


class Prototypes(nn.Module):
    """Scores of classes by likeness to prototypes: `score_c = Σ_i a_i Σ_k |cos(z_i, p_ck)|^(B-1) · p̂_ck·z_i`.

    Case-based reasoning (Chen et al. 2019, arXiv 1806.10574) whose sums are exact: the score of a class is the sum of what each
    of its prototypes contributes (`by_prototype`). A likeness is linear in z once its cosine is held, so each of these has
    contributions of pixels, too: `torchbcos.explain(network, x, class · per_class + k, at="….similarity")` explains T times one.
    The form of the likeness is that of B-cos layers; a published head of this kind is that of SIC (ICCV 2025).

    While a network learns, prototypes are free vectors. `project` then makes them tokens of training examples and keeps the
    numbers of these in `examples`, so that "it looks like this one" can be said and shown.

    Args:
        features: D of the tokens.
        num_classes: C.
        per_class: K, prototypes a class.
        places: 0: the same prototypes for all tokens; T: there are T tokens, and each place has prototypes of its own.
        b: exponent B ≥ 1.

    Raises:
        InputError: a number is out of range.

    >>> head = Prototypes(8, 3, 2)
    >>> tokens = torch.randn(1, 5, 8)
    >>> head(tokens).shape, torch.allclose(head.by_prototype(tokens).sum(-1), head(tokens))
    (torch.Size([1, 3]), True)
    """

    examples: Tensor

    def __init__(self, features: int, num_classes: int, per_class: int = 4, *, places: int = 0, b: float = 2.0) -> None:
        super().__init__()
        self.num_classes, self.per_class = check_whole(num_classes, "num_classes"), check_whole(per_class, "per_class")
        self.features, self.places = check_whole(features, "features"), check_whole(places, "places", least=0)
        self.similarity = Similarity(features, num_classes * per_class, places=places, b=b)
        self.register_buffer("examples", torch.full((max(1, places), num_classes, per_class), -1, dtype=torch.int64))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Prototypes are of no examples any more; `similarity` makes fresh vectors."""
        self.examples.fill_(-1)

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Map tokens (N, T, D) to scores (N, C).

        Args:
            x: tokens z.
            weight: a, how much each place counts, (T,) or (N, T); None: 1 / T. It is held.
        """
        return self.by_prototype(x, weight).sum(-1)

    def by_prototype(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """(N, C, K): what each prototype contributes; over K it sums to the scores."""
        likeness: Tensor = self.similarity(x)
        if weight is None:
            pooled = likeness.mean(1)
        else:
            if not isinstance(weight, Tensor) or weight.shape not in (likeness.shape[:2], likeness.shape[1:2]):
                given = tuple(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
                raise InputError(f"Expected a weight for each of {likeness.shape[1]} places, (T,) or (N, T), got {given}.")
            weight = hold(weight).to(likeness.dtype)
            pooled = (likeness * weight.unsqueeze(-1)).sum(1)
        return pooled.reshape(-1, self.num_classes, self.per_class)

    @torch.no_grad()
    def project(self, tokens: Tensor, labels: Tensor) -> None:
        """Make each prototype the token that is most like it among those of training examples of its class, in place.

        The K prototypes of a class and place become tokens of K examples: each takes, in turn, the one that is most like it by
        its cosine and that none before it took. `examples` then holds the number of that example; -1 where a place is in too few.

        Args:
            tokens: (M, T, D) tokens of M training examples, as `forward` gets them.
            labels: (M,) their classes.

        Raises:
            InputError: shapes or types do not fit, a token is not finite, or a class has fewer than K examples. Nothing is then
                changed.
        """
        labels = self._checked(tokens, labels)
        found = [self._nearest(tokens, labels, c, place) for place in range(len(self.examples)) for c in range(self.num_classes)]
        weight = self.similarity.weight
        weight.copy_(torch.stack([vectors for vectors, _ in found]).reshape(weight.shape))
        self.examples.copy_(torch.stack([numbers for _, numbers in found]).view_as(self.examples))

    def _checked(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """The labels as int64."""
        labels = torch.as_tensor(labels)
        if not isinstance(tokens, Tensor) or not tokens.is_floating_point() or tokens.dim() != 3:
            raise InputError(f"Expected floating-point tokens (M, T, {self.features}).")
        if tokens.shape[-1] != self.features or labels.shape != tokens.shape[:1] or not tokens.numel():
            raise InputError(
                f"Expected tokens (M, T, {self.features}) and labels (M,), got {tuple(tokens.shape)} and {tuple(labels.shape)}."
            )
        if self.places and tokens.shape[1] != self.places:
            raise InputError(f"Expected tokens of {self.places} places, got {tokens.shape[1]}.")
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool or int(labels.min()) < 0:
            raise InputError(f"Labels are whole numbers from 0, the classes of the examples, not {labels.dtype}.")
        if not bool(tokens.isfinite().all()):
            raise InputError("A token is NaN or infinite: it can be nobody's example.")
        counts = torch.bincount(labels, minlength=self.num_classes)
        if len(counts) > self.num_classes or int(counts.min()) < self.per_class:
            few = int(counts[: self.num_classes].argmin())
            raise InputError(
                f"Each of the {self.num_classes} classes needs {self.per_class} examples, one a prototype: class {few} has "
                f"{int(counts[few])}, and labels go up to {int(labels.max())}."
            )
        return labels.long()

    def _nearest(self, tokens: Tensor, labels: Tensor, c: int, place: int) -> tuple[Tensor, Tensor]:
        """(K, D) tokens and (K,) numbers of the examples of class c that the prototypes of a place become.

        A token of zeros is not there, and is nobody's example; where too few are there, a prototype stays as it is, of none (-1).
        """
        numbers = (labels == c).nonzero().squeeze(1)
        there = tokens[numbers][:, place : place + 1] if self.places else tokens[numbers]
        weight = self.similarity.weight[place] if self.places else self.similarity.weight
        old = weight.reshape(self.num_classes, self.per_class, -1)[c].to(there)
        cosines = nn.functional.normalize(there, dim=-1) @ nn.functional.normalize(old, dim=-1).t()  # (M, T, K)
        cosines = cosines.masked_fill((there == 0).all(-1, keepdim=True), -torch.inf)
        best, token = cosines.max(1)
        vectors, chosen = [], []
        for k in range(self.per_class):
            m = int(best[:, k].argmax())
            known = bool(best[m, k] > -torch.inf)
            vectors.append(there[m, int(token[m, k])] if known else old[k])
            chosen.append(numbers[m] if known else numbers.new_tensor(-1))
            best[m] = -torch.inf
        return torch.stack(vectors), torch.stack(chosen)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.features}, {self.num_classes}, per_class={self.per_class}, places={self.places}"
