"""FunnyBirds (Hesse et al., ICCV 2023, arXiv 2308.06248): maps judged by pictures of birds without some of their parts.

Subsets of P parts are written as one number: bit p is set where part p is in it. So `kept[n, 0]` belongs to the bird without
any part and `kept[n, 2 ** P - 1]` to the whole one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from torchbcos._core.errors import InputError
from torchbcos.metrics.about import Metric
from torchbcos.metrics.parts import subset_codes
from torchbcos.metrics.ranks import spearman

__all__ = [
    "METRICS", "background_independence", "choose_threshold", "combined_scores", "controlled_data_check", "deletion_check",
    "distractibility", "part_correlation", "preservation_check", "target_sensitivity",
]  # fmt: skip

_EQUAL = 1e-12  # means that differ by less are equal: they are sums of the same numbers in another order


def controlled_data_check(important: Tensor, sets: Sequence[Tensor], correct: Tensor) -> Tensor:
    """CSDC: how much of a set of parts that suffices to tell the class the map calls important, for the best such set.

    It is |important ∩ set| / |set|: a map that calls all parts important gets 1.

    Args:
        important: (N, T, P) bool, of the map of the class.
        sets: for each image (S, P) bool, see `minimal_part_sets`.
        correct: (N,) bool: the network is right.

    Returns:
        (N, T) float64; NaN where the network is wrong or no set suffices.

    Raises:
        InputError: shapes do not fit.

    >>> important = torch.tensor([[[True, False, False]]])
    >>> controlled_data_check(important, [torch.tensor([[True, True, False]])], torch.tensor([True]))
    tensor([[0.5000]], dtype=torch.float64)
    """
    _check_important(important)
    if len(sets) != len(important) or correct.shape != important.shape[:1]:
        raise InputError(f"There are {len(important)} images, {len(sets)} lists of sets and {correct.numel()} answers.")
    found = torch.full(important.shape[:2], math.nan, dtype=torch.float64)
    for row, (said, known, right) in enumerate(zip(important.cpu(), sets, correct.tolist(), strict=True)):
        if right and len(known):
            wanted = known.cpu().double()
            found[row] = (said.double() @ wanted.T / wanted.sum(1)).amax(1)
    return found.to(important.device)


def preservation_check(important: Tensor, kept: Tensor, predicted: Tensor) -> Tensor:
    """PC: whether the prediction stays where all parts but the important ones are removed.

    Args:
        important: (N, T, P) bool, of the map of the predicted class.
        kept: (N, 2^P) int64: the class predicted for the bird with this subset of its parts; -1: nobody asked.
        predicted: (N,) int64: the class predicted for the whole picture.

    Returns:
        (N, T) float64 of 0 and 1; NaN where nobody asked.

    Raises:
        InputError: shapes do not fit.

    >>> kept = torch.tensor([[9, 4, 9, 4]])  # part 0 alone decides
    >>> preservation_check(torch.tensor([[[True, False], [False, True]]]), kept, torch.tensor([4]))
    tensor([[1., 0.]], dtype=torch.float64)
    """
    found = _predicted_of(important, kept, predicted)
    return _known(found == predicted[:, None], found)


def deletion_check(important: Tensor, kept: Tensor, predicted: Tensor) -> Tensor:
    """DC: whether the prediction changes where the important parts are removed; see `preservation_check`.

    >>> kept = torch.tensor([[9, 4, 9, 4]])
    >>> deletion_check(torch.tensor([[[True, False], [False, True]]]), kept, torch.tensor([4]))
    tensor([[1., 0.]], dtype=torch.float64)
    """
    found = _predicted_of(~important, kept, predicted)
    return _known(found != predicted[:, None], found)


def distractibility(important: Tensor, logits: Tensor, without: Tensor, *, share: float = 0.05) -> Tensor:
    """D: the share of irrelevant parts, of the bird and behind it, that the map does not call important.

    A part is irrelevant if the logit falls by less than `share` of its size without the part, does not fall, or rises.

    Args:
        important: (N, T, Q) bool, of the map of the true class.
        logits: (N,) of that class.
        without: (N, Q) the same logit for the picture without each part; NaN: there is no such part.
        share: of the logit's size.

    Returns:
        (N, T) float64; NaN where no part is irrelevant.

    Raises:
        InputError: shapes do not fit.

    >>> important = torch.tensor([[[True, True, False]]])
    >>> distractibility(important, torch.tensor([10.0]), torch.tensor([[5.0, 9.9, 11.0]]))
    tensor([[0.5000]], dtype=torch.float64)
    """
    _check_important(important)
    if without.shape != (len(important), important.shape[2]):
        raise InputError(f"Expected without {(len(important), important.shape[2])}, a logit a part, not {tuple(without.shape)}.")
    idle = ~_relevant(logits, without, share) & ~without.isnan()
    told = (important & idle[:, None]).sum(2).double()
    return 1 - told / idle.sum(1).double()[:, None]  # 0 / 0 is NaN


def background_independence(logits: Tensor, without: Tensor, *, share: float = 0.05) -> Tensor:
    """BI, of the network alone: the share of background objects without which the logit falls by less than `share` of its size.

    Args:
        logits: (N,) of the true class.
        without: (N, B) the same logit without each object; NaN: there is no such object.
        share: of the logit's size.

    Returns:
        (N,) float64; NaN where there is no object.

    Raises:
        InputError: shapes do not fit.

    >>> background_independence(torch.tensor([10.0]), torch.tensor([[9.9, 5.0, 10.0, 12.0]]))
    tensor([0.7500], dtype=torch.float64)
    """
    relevant = _relevant(logits, without, share)
    return 1 - relevant.sum(1).double() / (~without.isnan()).sum(1).double()


def part_correlation(importance: Tensor, drops: Tensor) -> Tensor:
    """SD, single deletion: (ρ + 1) / 2, with Spearman's ρ between what a map says of the parts and what the logit says.

    Equal numbers share the mean of their ranks.

    Args:
        importance: (N, P), of the map of the true class.
        drops: (N, P): how far the logit of that class falls without each part.

    Returns:
        (N,) float64: 1 for the same order, 0 for the reversed one; NaN where one of both is constant or holds NaN.

    Raises:
        InputError: shapes differ.

    >>> part_correlation(torch.tensor([[3.0, 2.0, 1.0]] * 2), torch.tensor([[9.0, 8.0, 7.0], [0.0, 4.0, 5.0]]))
    tensor([1., 0.], dtype=torch.float64)
    """
    if importance.dim() != 2 or importance.shape != drops.shape:
        raise InputError(f"Expected importance and drops (N, P), not {tuple(importance.shape)} and {tuple(drops.shape)}.")
    return (spearman(importance.double(), drops.double()) + 1) / 2


def target_sensitivity(importance: Tensor, shared: Tensor, without: Tensor) -> Tensor:
    """TS: whether the map of each of two classes puts more on the parts which the bird shares with that class.

    Args:
        importance: (N, 2, P), of the maps of the two classes for the same picture.
        shared: (N, 2, P) bool: the parts that each class shares with the bird's, see `contrasting_classes`.
        without: (N, 2, 2): row j the logits of the two classes for the picture without `shared[:, j]`.

    Returns:
        (N,) float64: 0, 0.5 or 1, the mean of both questions. NaN where nobody asked (`without` is NaN), or where the network
        itself does not lose more of each class with the parts of that class.

    Raises:
        InputError: shapes do not fit.

    >>> importance = torch.tensor([[[2.0, 1.0], [1.0, 2.0]]])
    >>> shared = torch.tensor([[[True, False], [False, True]]])
    >>> target_sensitivity(importance, shared, torch.tensor([[[0.0, 3.0], [3.0, 0.0]]]))
    tensor([1.], dtype=torch.float64)
    """
    if importance.dim() != 3 or importance.shape[1] != 2 or shared.shape != importance.shape:
        raise InputError(f"Expected importance and shared (N, 2, P), not {tuple(importance.shape)} and {tuple(shared.shape)}.")
    if without.shape != (len(importance), 2, 2):
        raise InputError(f"Expected without {(len(importance), 2, 2)}, not {tuple(without.shape)}.")
    sums = torch.einsum("nkp,njp->njk", importance.double(), shared.double())  # parts j, map of class k
    score = ((sums[:, 0, 0] > sums[:, 0, 1]).double() + (sums[:, 1, 1] > sums[:, 1, 0]).double()) / 2
    holds = (without[:, 0, 0] < without[:, 1, 0]) & (without[:, 1, 1] < without[:, 0, 1])
    return score.where(holds, torch.nan)


def choose_threshold(csdc: Tensor, pc: Tensor, dc: Tensor, d: Tensor, *, folds: Tensor | None = None) -> Tensor:
    """The threshold with the greatest (CSDC + PC + DC) / 3 + D, the least of equal ones.

    Args:
        csdc: (N, T), as the others; NaN is left out of the means.
        pc: (N, T).
        dc: (N, T).
        d: (N, T).
        folds: (N,) the part of the data an image belongs to: its threshold is chosen on the images of all other parts. None: on
            all images, and so on those that are judged, as the literature does.

    Returns:
        (N,) int64: the place of each image's threshold.

    Raises:
        InputError: shapes differ, there is no image, or all are in one part.

    >>> csdc = pc = dc = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> choose_threshold(csdc, pc, dc, pc), choose_threshold(csdc, pc, dc, pc, folds=torch.tensor([0, 1]))
    (tensor([0, 0]), tensor([0, 1]))
    """
    if any(one.shape != csdc.shape or one.dim() != 2 for one in (csdc, pc, dc, d)) or csdc.numel() == 0:
        raise InputError(f"Expected CSDC, PC, DC and D (N, T), not {', '.join(str(tuple(v.shape)) for v in (csdc, pc, dc, d))}.")
    columns = [one.detach().cpu().double() for one in (csdc, pc, dc, d)]
    if folds is None:
        return torch.full((len(csdc),), _best(columns), device=csdc.device)
    folds = folds.cpu()
    parts = sorted(set(folds.tolist()))
    if folds.shape != csdc.shape[:1] or len(parts) < 2:
        raise InputError(
            f"folds divides {len(csdc)} images into two parts or more, so that a threshold is chosen on others: "
            "give more images, or a threshold."
        )
    found = torch.zeros(len(csdc), dtype=torch.int64)
    for part in parts:
        found[folds == part] = _best([one[folds != part] for one in columns])
    return found.to(csdc.device)


def combined_scores(csdc: Tensor, pc: Tensor, dc: Tensor, d: Tensor, sd: Tensor, ts: Tensor) -> dict[str, Tensor]:
    """The three numbers of the paper: completeness ((CSDC + PC + DC) / 3 + D) / 2, correctness SD, contrastivity TS.

    Args:
        csdc: of any shape, as the others: means over images, or one an image.
        pc: see `preservation_check`.
        dc: see `deletion_check`.
        d: see `distractibility`.
        sd: see `part_correlation`.
        ts: see `target_sensitivity`.

    >>> one = torch.tensor(1.0)
    >>> combined_scores(one, one, one, 0 * one, one, one)
    {'completeness': tensor(0.5000), 'correctness': tensor(1.), 'contrastivity': tensor(1.)}
    """
    return {"completeness": ((csdc + pc + dc) / 3 + d) / 2, "correctness": sd, "contrastivity": ts}


def _best(columns: Sequence[Tensor]) -> int:
    """The place of the best threshold for CSDC, PC, DC and D (N, T) of some images."""
    # each threshold is a row that is summed by itself: equal columns have equal sums
    means = [one.T.contiguous().nanmean(1).nan_to_num(0) for one in columns]
    worth = (means[0] + means[1] + means[2]) / 3 + means[3]
    return int((worth >= worth.max() - _EQUAL).nonzero()[0])


def _check_important(important: Tensor) -> None:
    if important.dim() != 3 or important.dtype != torch.bool:
        raise InputError(f"Expected important (N, T, P) of bool, not {tuple(important.shape)} of {important.dtype}.")


def _predicted_of(members: Tensor, kept: Tensor, predicted: Tensor) -> Tensor:
    """(N, T): the class predicted for the bird with these parts."""
    _check_important(members)
    if kept.shape != (len(members), 2 ** members.shape[2]) or predicted.shape != kept.shape[:1]:
        raise InputError(
            f"Expected kept {(len(members), 2 ** members.shape[2])}, a class a subset, and predicted {(len(members),)}, "
            f"not {tuple(kept.shape)} and {tuple(predicted.shape)}."
        )
    return kept.gather(1, subset_codes(members))


def _known(answer: Tensor, found: Tensor) -> Tensor:
    return answer.double().where(found >= 0, torch.nan)


def _relevant(logits: Tensor, without: Tensor, share: float) -> Tensor:
    """(N, Q) bool: the logit falls, and by its `share` at least."""
    if without.dim() != 2 or logits.shape != without.shape[:1]:
        raise InputError(f"Expected logits (N,) and without (N, Q), not {tuple(logits.shape)} and {tuple(without.shape)}.")
    whole = logits.double()[:, None]
    drop = whole - without.double()
    return (drop > 0) & (drop >= share * whole.abs())


METRICS = (
    Metric(
        name="funnybirds",
        function=None,
        summary="How well a map names the parts of a bird that the network uses: completeness, correctness, contrastivity.",
        best="high",
        range="[0, 1]; a constant map has no correctness (counted)",
        needs="the FunnyBirds folder, the model, explain: torchbcos.evaluation.evaluate_funnybirds",
        cost="about 30, and 4 maps",
        source="Hesse, Schaub-Meyer, Roth, ICCV 2023, arXiv 2308.06248",
        verified="twin, closed form on a made-up folder",
        blind="Birds are rendered, removed parts are holes, and the threshold is a choice.",
    ),
)
