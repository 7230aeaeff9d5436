"""A network, its images and its targets, as every method sees them; it counts the passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from torchbcos._core.errors import ArgumentTypeError, InputError, StateError
from torchbcos._core.frozen import mode
from torchbcos._core.numbers import positive_integer
from torchbcos._core.targets import resolve_targets
from torchbcos._core.torch_private import original
from torchbcos.explanation.engine import explain_through, gradients_of
from torchbcos.explanation.result import Explanation
from torchbcos.functional.replace import replacement

__all__ = ["Baseline", "Predict", "Subject", "rows_of", "training_layer", "with_gradient"]

Predict = Callable[[Tensor], Tensor]
Baseline = str | float | Tensor | Callable[[Tensor], Tensor]

_DROPS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_DEPTH = ("DropPath", "StochasticDepth", "DropBlock2d", "PatchDropout")  # of timm and torchvision
_PIXELS = 16 * 224 * 224  # of one forward pass where the caller does not say


class Subject:
    """What one call of `attribute` is about.

    Attributes:
        model: the network as it was given: a module or a function (N, C, *S) -> (N, classes).
        prepare: runs before it (it normalises pixels, say), or None.
        x: (N, C, *S), without history.
        scales: "live" or "frozen".
        samples: how many samples, masks or steps the caller asked for; None: the method's own number.
        generator: what every random number is drawn from.
        batch_size: images of one pass.
        forwards, backwards: how many images went through the network so far, forwards and backwards.
    """

    def __init__(
        self, model: nn.Module | Predict, prepare: nn.Module | None, x: Tensor, targets: object, *, scales: str = "live",
        baseline: Baseline = "grey", samples: int | None = None, generator: torch.Generator | None = None,
        batch_size: int | None = None, top_k: int = 1,
    ) -> None:  # fmt: skip
        _check(model, x, scales, samples, generator, batch_size)
        self.model, self.prepare, self.scales, self.samples = model, prepare, scales, positive_integer(samples)
        self.x = x.detach().clone() if x.is_inference() else x.detach()
        self.generator = torch.Generator().manual_seed(0) if generator is None else generator
        self.batch_size = positive_integer(batch_size) or max(1, _PIXELS // max(1, x[0, 0].numel()))
        self.forwards = self.backwards = 0
        self._baseline, self._given, self._top_k = baseline, targets, top_k
        self._replaced: Tensor | None = None
        self._outputs: Tensor | None = None
        self._targets: Tensor | None = None

    # -- facts ---------------------------------------------------------------------------------------------------------

    @property
    def outputs(self) -> Tensor:
        """(N, classes) of the untouched images."""
        if self._outputs is None:
            with torch.no_grad():
                self._outputs = torch.cat([self.forward(part) for part in _parts(self.x, self.batch_size)])
            _check_outputs(self._outputs)
        return self._outputs

    @property
    def targets(self) -> Tensor:
        """(N, K) int64."""
        if self._targets is None:
            self._targets = resolve_targets(self._given, self.outputs, top_k=self._top_k)
        return self._targets

    @property
    def count(self) -> int:
        """K."""
        return self.targets.shape[1]

    @property
    def values(self) -> Tensor:
        """(N, K) the outputs that are explained."""
        return self.outputs.gather(1, self.targets)

    @property
    def baseline(self) -> Tensor:
        """(N, C, *S) what stands for "nothing is there"."""
        if self._replaced is None:
            self._replaced = replacement(self.x, self._baseline)
        return self._replaced

    @property
    def module(self) -> nn.Module:
        """The network as a module, without the wrapper of torch.compile.

        Raises:
            ArgumentTypeError: it is a function.
        """
        if not isinstance(self.model, nn.Module):
            raise ArgumentTypeError("This method looks inside the network and needs a torch.nn.Module, not a function.")
        return original(self.model)

    @property
    def passes(self) -> int:
        """Passes for one image, forward and backward."""
        return -(-(self.forwards + self.backwards) // len(self.x))

    def adopt(self, outputs: Tensor) -> None:
        """Take the outputs of x from a pass that a method made itself, so that none is made for them alone."""
        _check_outputs(outputs)
        self._outputs = outputs.detach()

    @property
    def known(self) -> bool:
        """Whether the outputs of x are known already."""
        return self._outputs is not None

    def parts(self) -> list[slice]:
        """The images of each pass of a method that looks at x itself; of several, the targets are known before the first."""
        if len(self.x) > self.batch_size:
            _ = self.targets
        return [slice(i, min(i + self.batch_size, len(self.x))) for i in range(0, len(self.x), self.batch_size)]

    # -- running -------------------------------------------------------------------------------------------------------

    def forward(self, points: Tensor) -> Tensor:
        """(M, classes) for any images (M, C, *S); counted. Gradients are recorded where the caller records them."""
        self.forwards += len(points)
        outputs = self.model(self.given(points))
        if not isinstance(outputs, Tensor) or outputs.dim() != 2 or len(outputs) != len(points):
            what = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise StateError(
                f"Expected the model to give ({len(points)}, classes), got {what}: give one whose forward returns the logits "
                "alone, a module around it say."
            )
        return outputs

    def given(self, points: Tensor) -> Tensor:
        """What the network takes in: always a copy, so that one that edits its input in place leaves `points` as they are."""
        own = points.clone()
        return own if self.prepare is None else self.prepare(own)

    def scores(self, make: Callable[[int], Tensor], count: int) -> Iterator[tuple[slice, Tensor]]:
        """What the targets become in changed copies of every image; all K of them from the same passes.

        Args:
            make: number of a copy -> (N, C, *S), the j-th change of every image.
            count: how many changes.

        Yields:
            A slice of the numbers of copies, and (changes, N, K) values.
        """
        n = len(self.x)
        together = max(1, self.batch_size // n)
        with torch.no_grad():
            for start in range(0, count, together):
                rows = slice(start, min(start + together, count))
                points = torch.cat([make(j) for j in range(rows.start, rows.stop)])
                found = torch.cat([self.forward(part) for part in _parts(points, self.batch_size)])
                columns = self.targets.repeat(rows.stop - rows.start, 1)
                yield rows, found.gather(1, columns).reshape(rows.stop - rows.start, n, self.count)

    def gradients(self, points: Tensor, columns: Tensor) -> Tensor:
        """(M, K, C, *S) gradients of outputs `columns` (M, K) at `points` (M, C, *S), live or with held factors (W there)."""
        parts = [
            self._gradients(p, c) for p, c in zip(_parts(points, self.batch_size), _parts(columns, self.batch_size), strict=True)
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _gradients(self, points: Tensor, columns: Tensor) -> Tensor:
        self.backwards += len(points) * columns.shape[1]
        if self.scales == "frozen":
            self.forwards += len(points)
            return explain_through(self.module, self.prepare, points, columns, batch_size=len(points)).weights
        with torch.inference_mode(False), torch.enable_grad():
            leaf = points.detach().clone().requires_grad_()
            return rows_of(with_gradient(self.forward(leaf).gather(1, columns)), leaf)

    def own_gradients(self) -> Tensor:
        """`gradients` at x itself; outputs and targets come from the same forward passes."""
        if self._outputs is not None or len(self.x) > self.batch_size:
            return self.gradients(self.x, self.targets)
        if self.scales == "frozen":
            e = self.explained()
            return e.weights
        with torch.inference_mode(False), torch.enable_grad():
            leaf = self.x.clone().requires_grad_()
            outputs = self.forward(leaf)
            self.adopt(outputs)
            self.backwards += len(leaf) * self.count
            return rows_of(with_gradient(outputs.gather(1, self.targets)), leaf)

    def explained(self) -> Explanation:
        """The exact explanation of x: its outputs and targets become those of the subject."""
        try:
            e = explain_through(
                self.module, self.prepare, self.x, self._given if self._targets is None else self._targets, top_k=self._top_k,
                batch_size=self.batch_size,
            )  # fmt: skip
        except StateError:
            with (
                torch.no_grad()
            ):  # where a shape is at fault, every method says the same; explain has arguments that this has not
                self.forward(self.x[:1])
            raise
        self._outputs, self._targets = e.outputs, e.targets
        self.forwards += len(self.x)
        self.backwards += len(self.x) * self.count
        return e

    def mean_gradient(
        self, point: Callable[[int], Tensor], weights: Sequence[float], factor: Callable[[int], Tensor] | None = None
    ) -> Tensor:
        """`Σ_j weights[j] · gradient at point(j)` (N, K, C, *S), each gradient multiplied by factor(j) (N, C, *S) if given."""
        n, count = len(self.x), len(weights)
        together = max(1, self.batch_size // n)
        dtype = torch.float64 if self.x.dtype == torch.float64 else torch.float32
        total = torch.zeros(n, self.count, *self.x.shape[1:], dtype=dtype, device=self.x.device)
        for start in range(0, count, together):
            numbers = range(start, min(start + together, count))
            found = self.gradients(torch.cat([point(j) for j in numbers]), self.targets.repeat(len(numbers), 1))
            for j, rows in zip(numbers, found.reshape(len(numbers), n, *found.shape[1:]), strict=True):
                total += weights[j] * (rows if factor is None else rows * factor(j).unsqueeze(1))
        return total

    def noise(self, sigma: float) -> Tensor:
        """(C, *S) of a normal distribution: the same for every image, so that no result depends on an image's neighbours."""
        drawn = torch.randn(self.x.shape[1:], generator=self.generator, device=self.generator.device)
        return drawn.to(self.x.device, self.x.dtype) * sigma


def _parts(points: Tensor, size: int) -> list[Tensor]:
    return [points[start : start + size] for start in range(0, len(points), size)]


def rows_of(values: Tensor, leaf: Tensor) -> Tensor:
    """Gradients (M, K, …) of `values` (M, K) with respect to `leaf` (M, …): one backward pass a target."""
    count = values.shape[1]
    found = [gradients_of(values[:, k].sum(), [leaf], create_graph=False, retain_graph=k + 1 < count)[0] for k in range(count)]
    return torch.stack(found, 1)


def with_gradient(values: Tensor) -> Tensor:
    """The same values; StateError where none can be taken."""
    if not values.requires_grad:
        raise StateError("The outputs have no gradient: the network runs without autograd, so only methods that mask work on it.")
    return values


def training_layer(model: nn.Module) -> str | None:
    """The name of a layer that acts otherwise in training mode, and is in it."""
    for name, module in model.named_modules():
        acts = (
            isinstance(module, _DROPS)
            or "running_mean" in dict(module.named_buffers(recurse=False))
            or type(module).__name__ in _DEPTH
        )
        bare = type(module) is nn.Module  # holds the numbers of an exported program, whose mode is that of its export
        if module.training and acts and not bare and getattr(module, "p", 1) != 0:
            return str(name)
    return None


def _check_outputs(outputs: Tensor) -> None:
    if outputs.is_complex():
        raise StateError(f"Expected outputs that are real numbers, got {outputs.dtype}.")
    if not bool(outputs.isfinite().all()):
        raise StateError("The network's outputs are not finite (NaN or infinity): there is nothing to explain.")


def _check(model: object, x: object, scales: object, samples: object, generator: object, batch_size: object) -> None:
    """Raise unless the call makes sense."""
    if not callable(model):
        raise ArgumentTypeError(f"attribute needs a torch.nn.Module or a function of a batch, not {type(model).__name__}.")
    if not isinstance(x, Tensor):
        raise ArgumentTypeError(f"attribute needs a tensor (N, C, *S) as the network takes it, not {type(x).__name__}.")
    if not x.is_floating_point() or x.dim() < 2 or x.numel() == 0:
        raise InputError(f"Expected images (N, C, *S) of floating point, got {tuple(x.shape)} of {x.dtype}.")
    if not bool(x.isfinite().all()):
        raise InputError("The input has NaN or infinite values: an attribution of it would mean nothing.")
    if scales not in ("live", "frozen"):
        raise InputError(f"scales must be 'live' (the plain gradient) or 'frozen' (held factors: W), not {scales!r}.")
    for name, value in (("samples", samples), ("batch_size", batch_size)):
        if value is not None and positive_integer(value) is None:
            raise InputError(f"{name} must be a positive integer or None, not {value!r}.")
    if generator is not None and not isinstance(generator, torch.Generator):
        raise ArgumentTypeError(f"generator must be a torch.Generator or None, not {type(generator).__name__}.")
    if mode():
        raise StateError("attribute cannot run inside torchbcos.frozen(): leave the block and say scales='frozen'.")
    if isinstance(model, nn.Module) and (layer := training_layer(model)) is not None:
        raise StateError(
            f"attribute needs a network whose answer for an image is always the same, and {layer or 'it'!r} is in training mode: "
            "call model.eval()."
        )
