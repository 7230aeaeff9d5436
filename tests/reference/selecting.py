"""Slow float64 twin of a network of two stages: loops over rows, tokens, heads and parts, from the equations (arXiv 2506.08915).

Nothing here knows how the library selects, masks or explains. `Steps` is one transformer: it runs once on a picture and writes
down every factor (cosines, spreads, attention weights); then it repeats the same linear steps on *any* rows with those factors.
Repeated on a basis it gives W, on the picture with all pixels but one at 0 that pixel's contribution, on zeros the constants.
Weights are read by the names of a `state_dict`.

Shapes: N pictures, R rows of the same steps, C channels, T = h · w tokens, D numbers a token, K parts and, last, the background.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tests.reference.networks import sines

Numbers = Sequence[float]


@dataclass
class Steps:
    """The steps of a transformer. With `recorded` factors they are linear in x but for `constant` times the positions.

    Attributes:
        state: weights by name.
        patch, heads: pixels along one side of a patch; heads of attention.
        qkv: "bcos" or "linear", the map to queries, keys and values.
        moments: mean and spread a channel of x, for the step that normalises [x, 1 - x]; None: there is none.
    """

    state: Mapping[str, np.ndarray]
    patch: int
    heads: int
    qkv: str = "bcos"
    moments: tuple[Numbers, Numbers] | None = None
    factors: list[np.ndarray] = field(default_factory=list)
    recorded: bool = False
    place: int = 0
    constant: float = 1.0

    def factor(self, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """Computed in the first run, the same in all later ones."""
        if not self.recorded:
            self.factors.append(compute())
        self.place += 1
        return self.factors[self.place - 1]

    def repeat(self, constant: float) -> None:
        """From here on the factors are those of the first run."""
        self.recorded, self.place, self.constant = True, 0, constant

    # -- layers of (R, T, D) -----------------------------------------------------------------

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        """`w·x` for each row of a weight, and each token of x."""
        return mapped(self.state[name + ".weight"], x)

    def bcos(self, name: str, x: np.ndarray) -> np.ndarray:
        """`|cos(x, w)| · ŵ·x`: rows of unit length, and the cosine is a factor."""
        w = self.state[name + ".weight"]
        y = mapped(np.stack([row / math.sqrt(float(row @ row)) for row in w]), x)

        def cosines() -> np.ndarray:
            return np.stack([abs(y[0, t]) / (math.sqrt(float(x[0, t] @ x[0, t])) + 1e-12) for t in range(x.shape[1])])

        return y * self.factor(cosines)

    def norm(self, name: str | None, x: np.ndarray) -> np.ndarray:
        """Each token less its mean, over its spread, which is a factor; times a weight, but for None."""

        def spreads() -> np.ndarray:
            return np.array([[1 / math.sqrt(float(((z - z.sum() / len(z)) ** 2).sum()) / len(z) + 1e-5)] for z in x[0]])

        spread, out = self.factor(spreads), np.zeros_like(x)
        for r, t in itertools.product(range(len(x)), range(x.shape[1])):
            out[r, t] = (x[r, t] - x[r, t].sum() / x.shape[2]) * spread[t]
        return out if name is None else out * self.state[name + ".weight"]

    def attend(self, name: str, x: np.ndarray, seen: Numbers) -> np.ndarray:
        """`Σ_j α_ij v_j`, `α_ij = m_j e^(s_ij) / Σ_l m_l e^(s_il)`, which is a factor; 0 where all m are 0."""
        parts = (self.bcos if self.qkv == "bcos" else self.linear)(name + ".to_qkv", x)
        inner, count = parts.shape[2] // 3, x.shape[1]
        d = inner // self.heads

        def cut(which: int, h: int) -> slice:
            return slice(which * inner + h * d, which * inner + (h + 1) * d)

        def weights() -> np.ndarray:
            alpha = np.zeros((self.heads, count, count))
            for h, i in itertools.product(range(self.heads), range(count)):
                s = [float(parts[0, i, cut(0, h)] @ parts[0, j, cut(1, h)]) / math.sqrt(d) for j in range(count)]
                shares = [seen[j] * math.exp(s[j] - max(s)) for j in range(count)]
                for j in range(count):
                    alpha[h, i, j] = shares[j] / sum(shares) if sum(shares) > 0 else 0.0
            return alpha

        alpha, mixed = self.factor(weights), np.zeros((len(x), count, inner))
        for r, h, i in itertools.product(range(len(x)), range(self.heads), range(count)):
            mixed[r, i, h * d : (h + 1) * d] = alpha[h, i] @ parts[r, :, cut(2, h)]
        return self.bcos(name + ".to_out", mixed)

    # -- the whole ---------------------------------------------------------------------------

    def normalized(self, x: np.ndarray) -> np.ndarray:
        """`z = ((1 - mean) x⁺ - mean x⁻) / spread`, and -z."""
        if self.moments is None:
            return x
        half, out = x.shape[1] // 2, np.zeros_like(x)
        for c, (mean, spread) in enumerate(zip(*self.moments, strict=True)):
            out[:, c] = ((1 - mean) * x[:, c] - mean * x[:, half + c]) / spread
            out[:, half + c] = -out[:, c]
        return out

    def run(self, stage: str, x: np.ndarray, seen: Numbers, *, blank: bool) -> np.ndarray:
        """Tokens (R, T, D) of pictures (R, C, H, W); `seen` T numbers m; `blank`: pixels are 0 where m is."""
        x, p = self.normalized(x), self.patch
        h, w = x.shape[2] // p, x.shape[3] // p
        tokens = np.zeros((len(x), h * w, p * p * x.shape[1]))
        for r, i, j in itertools.product(range(len(x)), range(h), range(w)):
            if seen[i * w + j] or not blank:  # row by row, the channels of a pixel next to each other
                tokens[r, i * w + j] = x[r, :, i * p : (i + 1) * p, j * p : (j + 1) * p].transpose(1, 2, 0).ravel()
        z = self.norm(f"{stage}.embedding.norm", self.bcos(f"{stage}.embedding.linear", tokens))
        z = z + self.constant * sines(h, w, z.shape[2]).numpy().reshape(h * w, -1)
        depth = len({name.split(".encoders.")[1].split(".")[0] for name in self.state if name.startswith(stage + ".encoders.")})
        for i in range(depth):
            name = f"{stage}.encoders.{i}"
            z = z + self.attend(name + ".attn", self.norm(name + ".attn.norm", z), seen)
            y = self.bcos(name + ".ff.net.linear1", self.norm(name + ".ff.net.norm", z))
            z = z + self.bcos(name + ".ff.net.linear2", y)
        return z


def mapped(w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(R, T, O): rows of w times each token of x."""
    out = np.zeros((*x.shape[:2], len(w)))
    for r, t in itertools.product(range(len(x)), range(x.shape[1])):
        out[r, t] = w @ x[r, t]
    return out


class Twin:
    """Both stages.

    Args:
        state: of the network.
        patch, heads, qkv, moments: as in `Steps`.
        mask: "hard", "soft" or "late".
        bias, temperature: of the logits.
    """

    def __init__(
        self, state: Mapping[str, Tensor], *, patch: int, heads: int, mask: str = "hard", qkv: str = "bcos",
        moments: tuple[Numbers, Numbers] | None = None, bias: float = 0.0, temperature: float = 1.0,
    ) -> None:  # fmt: skip
        self.state = {name: value.detach().double().numpy() for name, value in state.items()}
        self.patch, self.heads, self.mask, self.qkv, self.moments = patch, heads, mask, qkv, moments
        self.bias, self.temperature = bias, temperature

    def steps(self) -> Steps:
        """Of one picture, nothing written down."""
        return Steps(self.state, self.patch, self.heads, self.qkv, self.moments)

    # -- the first stage ---------------------------------------------------------------------

    def where(self, steps: Steps, x: np.ndarray) -> np.ndarray:
        """(R, T, D): z."""
        count = x.shape[2] // self.patch * (x.shape[3] // self.patch)
        return steps.norm(None, steps.run("where.source", x, [1.0] * count, blank=False))

    def near(self, z: np.ndarray, constant: float = 1.0) -> np.ndarray:
        """(T, K + 1): `a_k = (2 z·p_k - ‖p_k‖²) / √D` of tokens (T, D)."""
        p = self.state["where.parts.vectors"]
        out = np.zeros((len(z), len(p)))
        for t, k in itertools.product(range(len(z)), range(len(p))):
            out[t, k] = (2 * float(z[t] @ p[k]) - constant * float(p[k] @ p[k])) / math.sqrt(z.shape[1])
        return out

    def grid(self, x: Tensor) -> tuple[int, int]:
        """h and w."""
        return x.shape[2] // self.patch, x.shape[3] // self.patch

    def assignment(self, x: Tensor) -> Tensor:
        """(N, h, w, K + 1): a."""
        found = [self.near(self.where(self.steps(), one[None])[0]) for one in x.double().numpy()]
        return torch.from_numpy(np.stack(found)).reshape(len(x), *self.grid(x), -1)

    def selection(self, x: Tensor, keep: Sequence[Sequence[int]] | None = None) -> Tensor:
        """(N, h, w) True where a patch is seen; `keep`: the parts that stay, of each picture."""
        return selected(self.assignment(x), keep)

    def scores(self, x: Tensor) -> Tensor:
        """(N, classes) that the first stage gives by itself."""
        return self.scores_of(self.means(x))

    def scores_of(self, means: Tensor) -> Tensor:
        """The same of (N, K + 1, D): v, all of which have one norm; the mean over parts of `W v'_k`."""
        w, out = self.state["part_scores.linear.weight"], []
        for v in means.numpy():
            middle = v.sum() / v.size
            spread = math.sqrt(float(((v - middle) ** 2).sum()) / v.size + 1e-5)
            v = (v - middle) / spread * self.state["part_scores.norm.weight"] + self.state["part_scores.norm.bias"]
            out.append(sum(w @ one for one in v[:-1]) / (len(v) - 1))
        return torch.from_numpy(np.stack(out))

    def means(self, x: Tensor) -> Tensor:
        """(N, K + 1, D): `v_k = (1 / HW) Σ_u A_k(u) z_u`."""
        out = []
        for one in x.double().numpy():
            z = self.where(self.steps(), one[None])[0]
            out.append(means_of(z, np.array([softmax(a) for a in self.near(z)])))
        return torch.from_numpy(np.stack(out))

    # -- the second stage --------------------------------------------------------------------

    def seen(self, x: Tensor) -> list[list[float]]:
        """T numbers m of each picture, by the first stage."""
        a = self.assignment(x)
        if self.mask == "soft":
            return [[sum(softmax(u)[:-1]) for u in one] for one in a.flatten(1, 2).numpy()]
        return [[float(u) for u in one] for one in selected(a).flatten(1).tolist()]

    def what(self, steps: Steps, x: np.ndarray, m: Numbers, how: str) -> np.ndarray:
        """(R, classes), before temperature and bias, of one picture's m."""
        late = how == "late"
        z = steps.run("what.tokens", x, [1.0] * len(m) if late else m, blank=how == "hard")
        total = float(len(m)) if late else sum(m)
        mean = np.zeros((len(x), 1, z.shape[2]))
        for r, t in itertools.product(range(len(x)), range(len(m))):
            mean[r, 0] += m[t] / total * z[r, t] if total > 0 else 0.0
        return steps.bcos("head_layers.linear", steps.norm("head_layers.norm", mean))[:, 0] / self.temperature

    def logits(self, x: Tensor, selection: Tensor | None = None) -> Tensor:
        """(N, classes); `selection` (N, h, w) in the place of the first stage's: True and False, or numbers m, by which pixels
        are not made 0.
        """
        seen = self.seen(x) if selection is None else [[float(u) for u in one] for one in selection.flatten(1).tolist()]
        how = self.mask
        if selection is not None and how != "late":
            how = "hard" if selection.dtype == torch.bool else "soft"
        pairs = zip(x.double().numpy(), seen, strict=True)
        return torch.from_numpy(np.stack([self.what(self.steps(), one[None], m, how)[0] + self.bias for one, m in pairs]))

    # -- explanations ------------------------------------------------------------------------

    def held(self, x: Tensor) -> list[Callable[[np.ndarray, float], np.ndarray]]:
        """For each picture the map of any rows (R, C, H, W) to (R, classes), all factors and the selection held; no bias."""
        return [self.hold(one[None], m) for one, m in zip(x.double().numpy(), self.seen(x), strict=True)]

    def hold(self, one: np.ndarray, m: Numbers) -> Callable[[np.ndarray, float], np.ndarray]:
        """Of one picture."""
        steps = self.steps()
        self.what(steps, one, m, self.mask)

        def again(rows: np.ndarray, constant: float) -> np.ndarray:
            steps.repeat(constant)
            return self.what(steps, rows, m, self.mask)

        return again

    def contributions(self, x: Tensor) -> Tensor:
        """(N, classes, H, W): what each pixel adds to each logit, by rows in which all other pixels are 0."""
        return torch.stack([pixel_by_pixel(again, one) for again, one in zip(self.held(x), x.double().numpy(), strict=True)])

    def weights(self, x: Tensor) -> Tensor:
        """(N, classes, C, H, W): W, by a basis."""
        shape = tuple(x.shape[1:])
        basis = np.eye(math.prod(shape)).reshape(-1, *shape)
        return torch.stack([torch.from_numpy(again(basis, 0.0).T.reshape(-1, *shape)) for again in self.held(x)])

    def constants(self, x: Tensor) -> Tensor:
        """(N, classes): the sum of all constants but the bias, by a row of zeros."""
        return torch.from_numpy(np.stack([again(np.zeros((1, *x.shape[1:])), 1.0)[0] for again in self.held(x)]))

    def evidence(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, K) mean over a part's patches of `a_k - a_background`, 0 without patches; and (N, K, H, W) contributions to it."""
        values, maps = [], []
        for one in x.double().numpy():
            steps = self.steps()
            found = self.near(self.where(steps, one[None])[0])
            nearest = [max(range(len(a)), key=lambda k, a=a: a[k]) for a in found]

            def margins(a: np.ndarray, of: Sequence[int] = nearest) -> np.ndarray:
                out = np.zeros(a.shape[1] - 1)
                for k in range(len(out)):
                    places = [u for u in range(len(of)) if of[u] == k]
                    out[k] = sum(a[u, k] - a[u, -1] for u in places) / max(1, len(places))
                return out

            def again(
                rows: np.ndarray, constant: float, steps: Steps = steps, margins: Callable[[np.ndarray], np.ndarray] = margins
            ) -> np.ndarray:  # fmt: skip
                steps.repeat(constant)
                return np.stack([margins(self.near(z, constant)) for z in self.where(steps, rows)])

            values.append(torch.from_numpy(margins(found)))
            maps.append(pixel_by_pixel(again, one))
        return torch.stack(values), torch.stack(maps)


def pixel_by_pixel(again: Callable[[np.ndarray, float], np.ndarray], one: np.ndarray) -> Tensor:
    """(outputs, H, W) of a picture (C, H, W): a row for each pixel, in which all others are 0; no constants."""
    height, width = one.shape[1:]
    rows = np.zeros((height * width, *one.shape))
    for i, j in itertools.product(range(height), range(width)):
        rows[i * width + j, :, i, j] = one[:, i, j]
    return torch.from_numpy(again(rows, 0.0).T.reshape(-1, height, width))


def softmax(a: np.ndarray) -> list[float]:
    """`e^a_k / Σ e^a_l`."""
    powers = [math.exp(float(k) - float(max(a))) for k in a]
    return [power / sum(powers) for power in powers]


def means_of(z: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(K + 1, D): `v_k = (1 / HW) Σ_u A_k(u) z_u`, of tokens (T, D) and shares (T, K + 1)."""
    return np.stack([sum(shares[u, k] * z[u] for u in range(len(z))) / len(z) for k in range(shares.shape[1])])


def selected(a: Tensor, keep: Sequence[Sequence[int]] | None = None) -> Tensor:
    """(N, h, w) True where a part is at least as near as the background, of (N, h, w, K + 1).

    A part that does not stay is nowhere, and where it is the nearest there is background: the background is as near as the
    nearest of itself and of all that go.
    """
    out = torch.zeros(a.shape[:3], dtype=torch.bool)
    parts = range(a.shape[3] - 1)
    for n, i, j in itertools.product(*map(range, a.shape[:3])):
        near = a[n, i, j].tolist()
        stay = set(parts) if keep is None else set(keep[n])
        background = max([near[-1], *(near[k] for k in parts if k not in stay)])
        out[n, i, j] = any(near[k] >= background for k in stay)
    return out


# -- losses of shares A (N, h, w, K + 1) -----------------------------------------------------


def presence(shares: Tensor) -> float:
    """1 - the mean over parts of the largest mean over a place and its (up to 8) neighbours, in all pictures."""
    count, height, width, vectors = shares.shape
    largest = []
    for k in range(vectors - 1):
        means = []
        for n, i, j in itertools.product(range(count), range(height), range(width)):
            around = [
                float(shares[n, y, x, k])
                for y in range(max(0, i - 1), min(height, i + 2))
                for x in range(max(0, j - 1), min(width, j + 2))
            ]
            means.append(sum(around) / len(around))
        largest.append(max(means))
    return 1 - sum(largest) / len(largest)


def orthogonality(means: Tensor, of: str = "parts") -> float:
    """The mean square of `v̂_k·v̂_l - [k = l]` over pictures and pairs; of columns instead of rows with "features"."""
    total = []
    for one in means.double().numpy():
        vectors = list(one) if of == "parts" else list(one.T)
        lengths = [math.sqrt(float(v @ v)) for v in vectors]
        for k, l in itertools.product(range(len(vectors)), repeat=2):  # noqa: E741
            cosine = float(vectors[k] @ vectors[l]) / (lengths[k] * lengths[l]) if lengths[k] and lengths[l] else 0.0
            total.append((cosine - (k == l)) ** 2)
    return sum(total) / len(total)


def total_variation(shares: Tensor) -> float:
    """The mean |difference| to the patch below, and the mean |difference| to the one at the right; 0 where there is none."""
    count, height, width, vectors = shares.shape
    below, right = [], []
    for n, i, j, k in itertools.product(range(count), range(height), range(width), range(vectors)):
        if i + 1 < height:
            below.append(abs(float(shares[n, i + 1, j, k] - shares[n, i, j, k])))
        if j + 1 < width:
            right.append(abs(float(shares[n, i, j + 1, k] - shares[n, i, j, k])))
    return sum(sum(one) / len(one) for one in (below, right) if one)


def entropy(shares: Tensor) -> float:
    """The mean over patches of `-Σ_k A_k ln A_k`; 0 ln 0 is 0."""
    patches = shares.flatten(0, 2).tolist()
    return sum(-sum(a * math.log(a) for a in patch if a > 0) for patch in patches) / len(patches)


def background_at_border(shares: Tensor) -> float:
    """The mean over pictures of `-ln max_u A_background(u) r(u)²`; r: 0 in the middle, 1 in the corners; at least 2 × 2
    patches."""
    count, height, width = shares.shape[:3]
    total = 0.0
    for n in range(count):
        best = 0.0
        for i, j in itertools.product(range(height), range(width)):
            middle = ((height - 1) / 2, (width - 1) / 2)
            away = ((i - middle[0]) / middle[0], (j - middle[1]) / middle[1])
            best = max(best, float(shares[n, i, j, -1]) * (away[0] ** 2 + away[1] ** 2) / 2)
        total -= math.log(max(best, 1e-12))
    return total / count


def equivariance(shares: Tensor, turned: Tensor, theta: Tensor) -> float:
    """1 - the mean cosine of the turned A of a picture and the A of the turned picture, where the turned picture shows something.

    Place (x, y) of a turned map, from -1 to 1 over the width and the height, is taken from θ (x, y, 1) of the map, between the
    middles of four patches; beyond the outermost ones there are zeros.
    """
    count, height, width, vectors = shares.shape
    cosines = []
    for n, i, j in itertools.product(range(count), range(height), range(width)):
        here = ((2 * j + 1) / width - 1, (2 * i + 1) / height - 1, 1.0)
        there = [sum(float(theta[n, row, c]) * here[c] for c in range(3)) for row in range(2)]
        column, row = ((there[0] + 1) * width - 1) / 2, ((there[1] + 1) * height - 1) / 2
        taken, inside = [0.0] * vectors, 0.0
        for y, x in itertools.product((math.floor(row), math.floor(row) + 1), (math.floor(column), math.floor(column) + 1)):
            if 0 <= y < height and 0 <= x < width:
                share = (1 - abs(row - y)) * (1 - abs(column - x))
                inside += share
                taken = [t + share * float(shares[n, y, x, k]) for k, t in enumerate(taken)]
        if inside > 0.99:
            other = [float(t) for t in turned[n, i, j]]
            lengths = [math.sqrt(sum(t * t for t in vector)) for vector in (taken, other)]
            cosines.append(sum(a * c for a, c in zip(taken, other, strict=True)) / (lengths[0] * lengths[1]))
    return 1 - sum(cosines) / max(1, len(cosines))
