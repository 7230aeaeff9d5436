"""The first of two stages: what part each patch is of, and which patches are seen (Aniraj et al. 2025, arXiv 2506.08915).

Shapes: N pictures, h × w patches, D channels last, K parts and, last, the background.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchbcos import nn as bnn
from torchbcos._core.errors import InputError
from torchbcos._core.frozen import add_constant, current, mode, outside, parameter
from torchbcos._core.names import hint
from torchbcos.models import convnext, densenet, resnet, vgg
from torchbcos.models.blocks import Style
from torchbcos.models.family import Family
from torchbcos.models.mesh import Present
from torchbcos.models.network import Network
from torchbcos.models.tokens import Patches, make_linear, make_qkv, make_token_norm
from torchbcos.models.vit import Encoder, ViTSizes
from torchbcos.nn.layer import run_layer

__all__ = [
    "Features", "PartScores", "Parts", "Tokens", "What", "Where", "chosen", "describe", "drawn", "make_features", "without_parts",
]  # fmt: skip

_BACKBONES: tuple[Family, ...] = (resnet.FAMILY, densenet.FAMILY, vgg.FAMILY, convnext.FAMILY)


class _Visible(bnn.Layer):
    """A picture where it may be seen, and 0 elsewhere, whatever stands there."""

    def forward(self, x: Tensor, pixels: Tensor) -> Tensor:  # type: ignore[override]
        """Map (N, C, H, W) to (N, C, H, W); pixels: (N, 1, H, W) True where it is seen."""
        return run_layer(self, x, pixels)

    def compute(self, x: Tensor, pixels: Tensor) -> Tensor:  # type: ignore[override]
        """Fill with zeros."""
        return x.masked_fill(~pixels, 0)


class Tokens(nn.Module):
    """A transformer up to its tokens: patches that do not overlap, a norm, positions, encoders.

    Args:
        style: how layers are made.
        sizes: width, heads, depth, patch.
        in_channels: of the encoded picture.
        qkv: "linear" or "bcos".
    """

    channel_dim = -1

    def __init__(self, style: Style, sizes: ViTSizes, in_channels: int, qkv: str = "bcos") -> None:
        super().__init__()
        make_qkv(style, 1, 1, qkv)
        self.patch, self.dim = sizes.patch, sizes.dim
        self.normalize = style.make_normalize(in_channels) or nn.Identity()
        self.embedding = nn.Sequential(
            OrderedDict(
                rearrange=Patches(sizes.patch), linear=make_linear(style, sizes.patch**2 * in_channels, sizes.dim),
                norm=make_token_norm(style, sizes.dim), position=bnn.SinCosPosition2d(sizes.dim),
            )
        )  # fmt: skip
        self.encoders = nn.ModuleList(Encoder(style, sizes, qkv) for _ in range(sizes.depth))
        self.visible = _Visible()

    def forward(self, x: Tensor, mask: Tensor | None = None, pixels: Tensor | None = None) -> Tensor:
        """Map pictures (N, C, H, W) to tokens (N, h, w, D).

        Args:
            x: encoded pictures.
            mask: (N, h, w) which tokens are seen; None: all.
            pixels: (N, 1, H, W) True where the picture may be seen: the rest is 0 before anything is computed. None: everywhere.
        """
        x = self.normalize(x)
        tokens: Tensor = self.embedding(x if pixels is None else self.visible(x, pixels))
        for encoder in self.encoders:
            tokens = encoder(tokens, mask)
        return tokens


class Features(nn.Module):
    """Features of a trained network in the place of tokens; they stay as they are.

    They are those of its last stage with at most 16 pixels a feature. A picture is enlarged (bilinearly) until each patch has
    one.

    Args:
        network: a convolutional network.
        patch: pixels along one side of a patch.
    """

    channel_dim = -1

    def __init__(self, network: Network, patch: int) -> None:
        super().__init__()
        self.network, self.patch = network.requires_grad_(False), patch
        self.stage, info = [(i, one) for i, one in enumerate(network.feature_info) if one.reduction <= 16][-1]
        self.reduction, self.dim = info.reduction, info.channels
        self.train(False)

    def train(self, mode: bool = True) -> Features:
        """Itself; what is frozen is never in training mode."""
        super().train(False)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, C, H, W) to features (N, h, w, D)."""
        sides = [side // self.patch * self.reduction for side in x.shape[2:]]
        x = F.interpolate(x, size=sides, mode="bilinear", align_corners=False)
        return self.network.forward_stages(x)[self.stage].movedim(1, -1)

    @torch.no_grad()
    def take(self, network: Network) -> None:
        """Copy the weights of a trained network of the same architecture.

        Raises:
            InputError: it is of another one.
        """
        classifier = f"{network.classifier_name}."  # nobody reads it here
        weights = {name: value for name, value in network.state_dict().items() if not name.startswith(classifier)}
        try:
            self.network.load_state_dict(weights)
        except RuntimeError as error:
            raise InputError(f"These weights do not fit the first stage: {str(error).splitlines()[-1].strip()}") from None


def make_features(description: str, patch: int, in_channels: int) -> Features:
    """Fresh features of a network that `describe` describes.

    Raises:
        InputError: there is no such network, or no such option.
    """
    name, *pairs = description.split()
    known = {name: family for family in _BACKBONES for name in family.sizes}
    if name not in known:
        raise InputError(f"features begins with the name of a convolutional network, not {name!r}.{hint(name, known)}")
    options = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"Options of features are written as antialias=true, not {pair!r}.")
        options[key] = _value(text)
    style = {key: options.pop(key) for key in list(options) if key in Style.__dataclass_fields__}
    family = known[name]
    try:
        own = Style(**{**vars(family.styles.get(name, Style())), **style})  # type: ignore[arg-type]
        network = family.build(family.sizes[name], own, num_classes=0, in_channels=in_channels, **options)
    except TypeError as error:
        raise InputError(f"features={description!r} cannot be built: {error}") from None
    return Features(network, patch)


def _value(text: str) -> bool | int | float | str:
    """A value as it is written in a description.

    >>> [_value(text) for text in ("true", "0.75", "3", "layer")]
    [True, 0.75, 3, 'layer']
    """
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def describe(network: Network) -> str:
    """A network as the option `features` names it.

    Raises:
        InputError: it is no convolutional network of this library, or an ordinary one.

    >>> from torchbcos import create_model
    >>> describe(create_model("resnet18", antialias=True, num_classes=10))
    'resnet18 antialias=True'
    """
    made = network.architecture
    if made is None or made.plain or not any(made.name in family.sizes for family in _BACKBONES):
        raise InputError("Features come from a convolutional B-cos network that torchbcos.create_model or load has made.")
    return " ".join([made.name, *(f"{key}={value}" for key, value in made.options.items())])


class Parts(bnn.Layer):
    """Part vectors p: how near each token z is, `a_k = (2 z·p_k - ‖p_k‖² - ‖z‖²) / √D = -‖z - p_k‖² / √D`; the last is the
    background.

    The term of ‖z‖², alike for all, changes neither a softmax nor a comparison, and is left out. So `a` is linear in z, with a
    constant. (In the paper the distance is not divided; ours.)

    Args:
        dim: D.
        parts: K.
    """

    channel_dim = -1

    def __init__(self, dim: int, parts: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.empty(parts + 1, dim))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Fresh vectors."""
        nn.init.normal_(self.vectors)

    def compute(self, x: Tensor) -> Tensor:
        """Map tokens (N, h, w, D) to assignments (N, h, w, K + 1), before their softmax."""
        p, scale = parameter(self.vectors), x.shape[-1] ** -0.5
        return add_constant(2 * scale * (x @ p.t()), -scale * p.square().sum(1), "part vectors")

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.vectors.shape[1]}, parts={len(self.vectors) - 1}"


class Where(bnn.Layer):
    """The first stage: which patches (N, h, w) the second one sees.

    True and False; or numbers, where this stage learns from the second (1 or 0, with the gradient of the probability to be of a
    part), or where masks are soft (that probability). Explanations hold it as a whole: no constant of this stage is theirs.

    Args:
        source: makes tokens (N, h, w, D) of pictures.
        norm: of those tokens.
        parts: K.
        noise, cut, soft, drop: as in `TwoStage`.
    """

    channel_dim = -1

    def __init__(
        self, source: Tokens | Features, norm: nn.Module, parts: int, *, noise: str, cut: bool, soft: bool, drop: float
    ) -> None:  # fmt: skip
        super().__init__()
        self.source, self.norm, self.parts = source, norm, Parts(source.dim, parts)
        self.noise, self.cut, self.soft, self.drop = noise, cut, soft, drop

    def tokens(self, x: Tensor) -> Tensor:
        """(N, h, w, D): normed tokens."""
        out: Tensor = self.norm(self.source(x))
        return out

    def compute(self, x: Tensor) -> Tensor:
        """Map pictures (N, C, H, W) to what is seen of them."""
        held = current() is not None or bool(mode())
        learns = self.training and torch.is_grad_enabled() and not held
        with torch.set_grad_enabled(learns), outside():
            return self.of_tokens(self.tokens(x if learns else x.detach()))

    def of_tokens(self, tokens: Tensor) -> Tensor:
        """The same of normed tokens that were computed before."""
        found = self.drawn(self.parts(tokens))
        if self.training and self.drop:
            found = without_parts(found, torch.rand(len(found), found.shape[-1] - 1, device=found.device) >= self.drop)
        part = found.softmax(-1)[..., :-1].sum(-1)
        if self.soft:
            return part.detach() if self.cut else part
        seen = chosen(found)
        learns = self.training and torch.is_grad_enabled() and not self.cut
        return seen.to(part.dtype) - part.detach() + part if learns else seen

    def drawn(self, assignment: Tensor) -> Tensor:
        """An assignment with noise, when there is to be some."""
        noisy = self.noise == "always" or (self.noise == "training" and self.training)
        return drawn(assignment) if noisy else assignment

    @torch.no_grad()
    def take(self, network: Network) -> None:
        """Copy the weights of a trained network, whose features this stage reads.

        Raises:
            InputError: it is of another architecture, or this stage reads no network's features.
        """
        if not isinstance(self.source, Features):
            raise InputError("This first stage learns tokens of its own: create the network with features=… to read another's.")
        self.source.take(network)


class What(bnn.Layer):
    """The second stage: tokens (N, h, w, D) of what is seen, scaled so that their mean is that over what is seen.

    Args:
        tokens: the transformer.
        late: it sees everything, and only its last tokens are masked; their mean is over all places.
    """

    channel_dim = -1

    def __init__(self, tokens: Tokens, *, late: bool = False) -> None:
        super().__init__()
        self.tokens, self.present, self.late = tokens, Present(), late

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:  # type: ignore[override]
        """Map pictures (N, C, H, W); seen: (N, h, w) True, or numbers from 0."""
        return run_layer(self, x, seen)

    def compute(self, x: Tensor, seen: Tensor) -> Tensor:  # type: ignore[override]
        """Tokens, 0 where nothing is seen."""
        weights = seen.to(x.dtype)
        if self.late:
            out: Tensor = self.present(self.tokens(x), weights)
            return out
        pixels = None
        if seen.dtype == torch.bool:
            p = self.tokens.patch
            pixels = seen.repeat_interleave(p, 1).repeat_interleave(p, 2).unsqueeze(1)
        count = weights.sum((1, 2), keepdim=True)
        share = weights * (seen.shape[1] * seen.shape[2] / torch.where(count > 0, count, torch.ones_like(count)))
        out = self.present(self.tokens(x, seen, pixels), share)
        return out


class PartScores(nn.Module):
    """What the first stage says by itself: the mean over parts of a linear map of each part's mean token.

    `v_k = mean over u of A_k(u) z_u`, for the background, too; a norm over all of them together; `1/K Σ_k≤K W v'_k`
    (arXiv 2506.08915, section 3).

    Args:
        dim, parts: D and K.
        classes: of the scores.
        drop: chance of each part to be left out, in training.
    """

    def __init__(self, dim: int, parts: int, classes: int, drop: float) -> None:
        super().__init__()
        self.drop = drop
        self.norm = nn.LayerNorm((parts + 1, dim))
        self.linear = bnn.Linear(dim, classes, bias=False)

    def means(self, tokens: Tensor, shares: Tensor) -> Tensor:
        """(N, K + 1, D): v, of tokens (N, h, w, D) and shares (N, h, w, K + 1)."""
        return torch.einsum("nhwk,nhwd->nkd", shares, tokens) / tokens[0, ..., 0].numel()

    def forward(self, tokens: Tensor, shares: Tensor) -> Tensor:
        """(N, classes) scores."""
        found = self.norm(self.means(tokens, shares))[:, :-1]
        if self.training and self.drop:
            keep = torch.rand(found.shape[:2], device=found.device) >= self.drop
            found = found * keep.unsqueeze(-1) / (1 - self.drop)
        out: Tensor = self.linear(found).mean(1)
        return out


def chosen(assignment: Tensor) -> Tensor:
    """(N, h, w) True where a part is at least as near as the background."""
    return assignment[..., :-1].amax(-1) >= assignment[..., -1]


def drawn(assignment: Tensor) -> Tensor:
    """The assignment with Gumbel noise: a draw, with the probabilities of its softmax."""
    return assignment - torch.empty_like(assignment).exponential_().clamp_min(torch.finfo(assignment.dtype).tiny).log()


def without_parts(assignment: Tensor, keep: Tensor | Sequence[int]) -> Tensor:
    """The assignment where only the parts `keep` are left; places of the others become background.

    Args:
        assignment: (N, h, w, K + 1).
        keep: numbers of parts, for all pictures; or (N, K) True for those that stay.

    Raises:
        InputError: there is no such part, or `keep` has another shape.

    >>> without_parts(torch.tensor([[[[3.0, 2.0, 1.0]]]]), [1])
    tensor([[[[-inf, 2., 3.]]]])
    """
    parts = assignment.shape[-1] - 1
    if not isinstance(keep, Tensor):
        if any(not 0 <= k < parts for k in keep):
            raise InputError(f"There are parts 0 to {parts - 1}, not {list(keep)}.")
        keep = torch.tensor([k in keep for k in range(parts)], device=assignment.device).expand(len(assignment), -1)
    if tuple(keep.shape) != (len(assignment), parts):
        raise InputError(
            f"keep is a list of parts, or True and False of shape {(len(assignment), parts)}, not {tuple(keep.shape)}."
        )
    gone = F.pad(~keep.bool(), (0, 1))[:, None, None]
    lost = assignment.masked_fill(~gone, -torch.inf).amax(-1)  # the nearest part that goes: its places are background now
    background = torch.maximum(assignment[..., -1], lost)
    return torch.cat([assignment.masked_fill(gone, -torch.inf)[..., :-1], background.unsqueeze(-1)], -1)


torch.fx.wrap("run_layer")
