"""Planted operations that are linear once factors are held: factors of degree 0, functions of degree 1.

By Euler's theorem every function of degree 1 has `gradient · x = f(x)`, so a sum that adds up says nothing about these.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.unit.kinds.planting import ANY, Case, Form, Hold, alive, factor, twins

__all__ = ["FACTORS", "KNOWN"]

_GENERATOR = torch.Generator().manual_seed(11)
Q, K, V = (torch.randn(8, 8, generator=_GENERATOR, dtype=torch.float64) / 3 for _ in range(3))
SPACE = (2, 3)


def tokens(x: Tensor) -> Tensor:
    """(N, C, H, W) as (N, H·W, C)."""
    return x.flatten(2).transpose(1, 2)


def back(t: Tensor, x: Tensor) -> Tensor:
    """Tokens in the shape of the picture."""
    return t.transpose(1, 2).reshape(x.shape)


# -- functions of degree 1 that foreign networks are made of ----------------------------------------


def grn(x: Tensor, hold: Hold) -> Tensor:
    size = x.norm(p=2, dim=SPACE, keepdim=True)
    return x * hold(size / size.mean(1, keepdim=True))


def squeeze_excite(x: Tensor, hold: Hold) -> Tensor:
    squeezed = x.mean(SPACE, keepdim=True)
    return x * hold(torch.sigmoid(3 * squeezed / squeezed.norm(dim=1, keepdim=True)))


def normalised_attention(x: Tensor, hold: Hold) -> Tensor:
    t = tokens(x)
    q, k = F.normalize(t @ Q, dim=-1), F.normalize(t @ K, dim=-1)
    return back(hold((q @ k.transpose(1, 2) * 8).softmax(-1)) @ (t @ V), x)


def linear_attention(x: Tensor, hold: Hold) -> Tensor:
    t = tokens(x)
    a = (t @ Q).relu() @ (t @ K).relu().transpose(1, 2)
    return back(hold(a / a.sum(-1, keepdim=True).clamp_min(1e-30)) @ (t @ V), x)


def linear_attention_by_values(x: Tensor, hold: Hold) -> Tensor:
    t = tokens(x)
    q, k = hold((t @ Q).relu()), hold((t @ K).relu())
    return back(q @ (k.transpose(1, 2) @ (t @ V)) / hold(q @ k.sum(1).unsqueeze(-1) + 1e-9), x)


def sized(x: Tensor, hold: Hold) -> Tensor:
    return x * hold(x.abs() / x.norm(dim=1, keepdim=True))


def gated_norm(x: Tensor, hold: Hold) -> Tensor:
    return x * hold(torch.sigmoid(x / x.std(1, keepdim=True)))


def normal_gate(x: Tensor, hold: Hold) -> Tensor:
    return x * hold(0.5 * (1 + torch.erf(x / x.std(1, keepdim=True) / 2**0.5)))


def softmax_pool(x: Tensor, hold: Hold) -> Tensor:
    a = (x / x.abs().amax(SPACE, keepdim=True) * 5).flatten(2).softmax(-1).view_as(x)
    return x * hold(a) * 64


def ratio(x: Tensor, hold: Hold) -> Tensor:
    a, b = x.chunk(2, 1)
    return torch.cat([a * hold(b.abs() / (a.abs() + b.abs())), b], 1)


def layer_norm(x: Tensor, hold: Hold) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    return centred / hold((centred.square().mean(1, keepdim=True) + 1e-6).sqrt())


def gate_of_layer_norm(x: Tensor, hold: Hold) -> Tensor:
    return x * hold(torch.sigmoid(F.layer_norm(x, x.shape[1:])))


def phi_of_layer_norm(x: Tensor, hold: Hold) -> Tensor:
    return x * hold(torch.special.ndtr(F.layer_norm(x, x.shape[1:])))


def geometric_gate(x: Tensor, hold: Hold) -> Tensor:
    a, b = x.chunk(2, 1)
    return torch.cat([a * hold((b / a).abs().sqrt()), b], 1)


def dynamic_conv(x: Tensor, hold: Hold) -> Tensor:
    mixture = hold((x.mean(SPACE) / x.abs().mean(SPACE)).softmax(1))
    kernels = torch.einsum("nc,co->no", mixture, V.softmax(0))
    weights = kernels.reshape(-1, 1, 1, 1).expand(-1, 1, 3, 3)
    return F.conv2d(x.reshape(1, -1, 6, 6), weights, padding=1, groups=8 * len(x)).reshape(x.shape)


def dynamic_linear(x: Tensor, hold: Hold) -> Tensor:
    w = hold(F.normalize(tokens(x), dim=-1).transpose(1, 2) @ F.normalize(tokens(x), dim=-1))
    return back(tokens(x) @ w, x)


def whitening(x: Tensor, hold: Hold) -> Tensor:
    centred = (x - x.mean(SPACE, keepdim=True)).flatten(2)
    values, vectors = torch.linalg.eigh(centred @ centred.transpose(1, 2) / 36 + torch.eye(8))
    inverse = vectors @ torch.diag_embed(values.rsqrt()) @ vectors.transpose(1, 2)
    return (hold(inverse) @ centred).view_as(x)


def cosine_gate(x: Tensor, hold: Hold) -> Tensor:
    return x * hold(F.cosine_similarity(x, x.roll(1, 1), dim=1).unsqueeze(1))


def distance_attention(x: Tensor, hold: Hold) -> Tensor:
    t = tokens(x)
    return back(hold((-torch.cdist(t, t) / t.norm(dim=(1, 2), keepdim=True)).softmax(-1)) @ t, x)


def moving_slope(x: Tensor, hold: Hold) -> Tensor:
    slope = hold(torch.sigmoid(x.mean() / x.std()))
    return torch.where(x > 0, x, slope * x)


def swiglu(x: Tensor, hold: Hold) -> Tensor:
    a, b = x.chunk(2, 1)
    return torch.cat([hold(F.silu(a)) * b, b], 1)


def hypernetwork(x: Tensor, hold: Hold) -> Tensor:
    weights = {"weight": hold(V + 0.1 * (x.mean() / x.abs().mean()))}
    return back(torch.func.functional_call(nn.Linear(8, 8, bias=False), weights, (tokens(x),)), x)


def warped(x: Tensor, hold: Hold) -> Tensor:
    row = torch.linspace(-0.9, 0.9, 6)
    grid = torch.stack(torch.meshgrid(row, row, indexing="xy"), -1).unsqueeze(0)
    grid = hold(grid + 0.2 * torch.tanh(x.mean((1, 2, 3)) / x.abs().mean((1, 2, 3))).reshape(-1, 1, 1, 1))
    return F.grid_sample(x, grid, align_corners=False)


def adaptive_norm(x: Tensor, hold: Hold) -> Tensor:
    scale = hold(1 + torch.sigmoid(x.mean()))
    return F.layer_norm(x, (6, 6), weight=scale.expand(6, 6))


def adaptive_norm_held(x: Tensor) -> Tensor:
    scale = (1 + torch.sigmoid(x.mean())).detach()
    centred = x - x.mean(SPACE, keepdim=True)
    return scale * centred / (centred.square().mean(SPACE, keepdim=True) + 1e-5).sqrt().detach()


KNOWN: dict[str, Form] = {  # explained, so that a table which refuses them is seen
    "GRN": grn,
    "squeeze-excite on a normalised mean": squeeze_excite,
    "QK-normalised attention": normalised_attention,
    "linear attention, values first": linear_attention_by_values,
    "x|x|/||x|| by hand": sized,
    "x*sigmoid(x/std)": gated_norm,
    "x*Phi(x/std)": normal_gate,
    "softmax pooling of a normalised map": softmax_pool,
    "a|b|/(|a|+|b|)": ratio,
    "layer norm by hand": layer_norm,
    "x*sigmoid(LN x)": gate_of_layer_norm,
    "SwiGLU": swiglu,
}
OTHERS: dict[str, Form] = {
    "linear attention as a ratio": linear_attention,
    "x*Phi(LN x)": phi_of_layer_norm,
    "geometric mean as a factor": geometric_gate,
    "dynamic convolution": dynamic_conv,
    "dynamic linear map": dynamic_linear,
    "instance whitening": whitening,
    "factor of a cosine similarity": cosine_gate,
    "attention by distance": distance_attention,
    "a moving slope": moving_slope,
    "weights of a functional_call": hypernetwork,
    "grid_sample by a moving grid": warped,
}
_SAYS: dict[str, tuple[str, ...]] = {
    "linear attention as a ratio": ("matmul", "bmm"),
    "x*Phi(LN x)": ("ndtr",),
    "geometric mean as a factor": ("div", "sqrt", "mul"),
    "dynamic convolution": ("conv2d",),
    "dynamic linear map": ("matmul",),
    "instance whitening": ("eigh", "matmul"),
    "factor of a cosine similarity": ("cosine_similarity",),
    "attention by distance": ("cdist",),
    "a moving slope": ("where",),
    "weights of a functional_call": ("linear",),
    "grid_sample by a moving grid": ("grid_sample",),
}

# -- one factor, multiplied in many spellings -------------------------------------------------------


def of_degree_0(x: Tensor) -> Tensor:
    return x.abs() / x.norm(dim=1, keepdim=True)


def _in_place(x: Tensor, g: Tensor) -> Tensor:
    y = x.clone()
    y *= g
    return y


def _sliced(x: Tensor, g: Tensor) -> Tensor:
    y = x.clone()
    y[:, :4] *= g[:, :4]
    y.narrow(1, 4, 4).mul_(g[:, 4:])
    return y


def _row_by_row(x: Tensor, g: Tensor) -> Tensor:
    return torch.stack([a * b for a, b in zip(x, g, strict=True)])


MULTIPLY = {
    "x * g": lambda x, g: x * g,
    "g * x": lambda x, g: g * x,
    "x.mul(g)": lambda x, g: x.mul(g),
    "torch.mul": torch.mul,
    "torch.multiply": torch.multiply,
    "mul_": lambda x, g: x.clone().mul_(g),
    "*=": _in_place,
    "*= on a slice": _sliced,
    "row by row": _row_by_row,
    "einsum": lambda x, g: torch.einsum("nchw,nchw->nchw", x, g),
    "einsum, turned": lambda x, g: torch.einsum("nchw,nchw->nchw", g, x),
    "addcmul": lambda x, g: torch.addcmul(torch.zeros_like(x), x, g),
    "addcmul_": lambda x, g: torch.zeros_like(x).addcmul_(g, x),
    "addcdiv": lambda x, g: torch.addcdiv(torch.zeros_like(x), x, 1 / g),
    "lerp": lambda x, g: torch.lerp(torch.zeros_like(x), x, g),
    "aten.mul.Tensor": lambda x, g: torch.ops.aten.mul.Tensor(x, g),
    "aten.mul": lambda x, g: torch.ops.aten.mul(x, g),
    "aten.mul_": lambda x, g: torch.ops.aten.mul_.Tensor(x.clone(), g),
    "x / (1 / g)": lambda x, g: x / (1 / g),
    "div": lambda x, g: torch.div(x, g.reciprocal()),
    "div_": lambda x, g: x.clone().div_(g.pow(-1)),
    "true_divide": lambda x, g: torch.true_divide(x, 1 / g),
    "aten.div": lambda x, g: torch.ops.aten.div.Tensor(x, 1 / g),
    "bmm with a diagonal": lambda x, g: torch.bmm(x.reshape(-1, 1, 8), torch.diag_embed(g.reshape(-1, 8))).view_as(x),
    "baddbmm": lambda x, g: torch.baddbmm(
        torch.zeros(72, 1, 8), x.reshape(72, 1, 8), torch.diag_embed(g.reshape(72, 8)), beta=0
    ).view_as(x),
    "matmul, @": lambda x, g: (x.reshape(-1, 1, 8) @ torch.diag_embed(g.reshape(-1, 8))).view_as(x),
    "TensorBase.mul": lambda x, g: torch._C.TensorBase.mul(x, g),
    "_VariableFunctions.mul": lambda x, g: torch._C._VariableFunctions.mul(x, g),
    "__rmul__": lambda x, g: g.__rmul__(x),
    "vmap": lambda x, g: torch.vmap(lambda a, b: a * b)(x, g),
    "checkpoint": lambda x, g: torch.utils.checkpoint.checkpoint(torch.mul, x, g, use_reentrant=False),
    "double negative": lambda x, g: x - x * (1 - g),
    "added and taken away": lambda x, g: x + (g - 1) * x,
}

# -- one norm, divided by in many spellings ---------------------------------------------------------


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=1, keepdim=True).detach()


UNIT = {
    "x / norm": lambda x: x / x.norm(dim=1, keepdim=True),
    "x / torch.norm": lambda x: x / torch.norm(x, dim=1, keepdim=True),
    "x / vector_norm": lambda x: x / torch.linalg.vector_norm(x, dim=1, keepdim=True),
    "x / linalg.norm": lambda x: x / torch.linalg.norm(x, dim=1, keepdim=True),
    "F.normalize": F.normalize,
    "x * rsqrt": lambda x: x * x.square().sum(1, keepdim=True).rsqrt(),
    "x / sqrt of a sum": lambda x: x / (x * x).sum(1, keepdim=True).sqrt(),
    "x / sqrt of an einsum": lambda x: x / torch.einsum("nchw,nchw->nhw", x, x).sqrt().unsqueeze(1),
    "x / pow": lambda x: x / x.pow(2).sum(1, keepdim=True).pow(0.5),
    "x / **": lambda x: x / (x**2).sum(1, keepdim=True) ** 0.5,
    "x / math": lambda x: torch.stack(
        [torch.stack([c / c.dot(c).sqrt() for c in t.flatten(1).T]).T.view(8, 6, 6) for t in x.unbind(0)]
    ),
    "vmap of x / norm": lambda x: torch.vmap(lambda t: t / t.norm(dim=0, keepdim=True))(x),
    "x / exp of a log": lambda x: x / (0.5 * x.square().sum(1, keepdim=True).log()).exp(),
    "x / hypot": lambda x: x / torch.hypot(x[:, :4].norm(dim=1, keepdim=True), x[:, 4:].norm(dim=1, keepdim=True)),
    "x / cdist": lambda x: x / torch.cdist(tokens(x), torch.zeros(2, 1, 8)).view(2, 1, 6, 6),
    "checkpoint of x / norm": lambda x: torch.utils.checkpoint.checkpoint(
        lambda t: t / t.norm(dim=1, keepdim=True), x, use_reentrant=False
    ),
}


def maximum_norm(x: Tensor) -> Tensor:
    return x / x.amax(SPACE, keepdim=True).detach()


MAXIMUM = {
    "x / amax": lambda x: x / x.amax(SPACE, keepdim=True),
    "x / max": lambda x: x / x.flatten(2).max(-1).values[..., None, None],
    "x / adaptive_max_pool": lambda x: x / F.adaptive_max_pool2d(x, 1),
    "x / topk": lambda x: x / x.flatten(2).topk(1).values[..., None],
    "x / sort": lambda x: x / x.flatten(2).sort(-1, descending=True).values[..., :1, None],
    "x / aminmax": lambda x: x / x.flatten(2).aminmax(dim=-1).max[..., None, None],
}


def p_norm(x: Tensor) -> Tensor:
    size = F.interpolate(x.abs().pow(4).unflatten(2, (3, 2)).unflatten(4, (3, 2)).sum((3, 5)), scale_factor=2)
    return (x * (x * x.abs().square() / size.pow(0.75)).detach()).unflatten(2, (3, 2)).unflatten(4, (3, 2)).sum((3, 5))


def instance_norm(x: Tensor) -> Tensor:
    centred = x - x.mean(SPACE, keepdim=True)
    return centred / (centred.square().mean(SPACE, keepdim=True) + 1e-5).sqrt().detach()


INSTANCE = {
    "F.instance_norm": F.instance_norm,
    "F.group_norm": lambda x: F.group_norm(x, 8),
    "F.layer_norm": lambda x: F.layer_norm(x, (6, 6)),
    "native_layer_norm": lambda x: torch.native_layer_norm(x, [6, 6], None, None, 1e-5)[0],
    "aten.native_group_norm": lambda x: torch.ops.aten.native_group_norm(x.contiguous(), None, None, 2, 8, 36, 8, 1e-5)[0],
    "var_mean": lambda x: (
        (x - torch.var_mean(x, SPACE, correction=0, keepdim=True)[1])
        / (torch.var(x, SPACE, correction=0, keepdim=True) + 1e-5).sqrt()
    ),
}
RMS = {
    "F.rms_norm": lambda x: F.rms_norm(x, (6, 6), eps=1e-5),
    "rms by hand": lambda x: x * torch.rsqrt(x.pow(2).mean(SPACE, keepdim=True) + 1e-5),
}
LOCAL = {
    "F.local_response_norm": lambda x: F.local_response_norm(x, 3),
    "local response norm by hand": lambda x: (
        x
        / (1 + 1e-4 * F.avg_pool1d(F.pad(x.square().flatten(2).transpose(1, 2), (1, 1)), 3, 1))
        .pow(0.75)
        .transpose(1, 2)
        .view_as(x)
    ),
}


def rms(x: Tensor) -> Tensor:
    return x * (x.square().mean(SPACE, keepdim=True) + 1e-5).rsqrt().detach()


def local(x: Tensor) -> Tensor:
    size = F.pad(x.square().flatten(2).transpose(1, 2), (1, 1)).unfold(2, 3, 1).mean(-1).transpose(1, 2).view_as(x)
    return x / (1 + 1e-4 * size).pow(0.75).detach()


UNWATCHED = ("vmap", "checkpoint", "vmap of x / norm", "checkpoint of x / norm")  # a refusal of these cannot say much
FACTORS: list[Case] = [
    *(factor(name, form, name, expect="explained") for name, form in KNOWN.items()),
    *(factor(name, form, *_SAYS[name]) for name, form in OTHERS.items()),
    *twins({"layer_norm with a moving weight": alive(adaptive_norm)}, adaptive_norm_held, "layer_norm"),
    *(
        Case(f"degree 0: {c.name}", c.make, c.held, ANY if c.name in UNWATCHED else c.says, expect=c.expect)
        for c in twins(
            {name: (lambda x, m=m: m(x, of_degree_0(x))) for name, m in MULTIPLY.items()},
            lambda x: x * of_degree_0(x).detach(),
            "mul",
            "div",
            "lerp",
            "bmm",
            "einsum",
            "addc",
        )
    ),
    *twins(
        {n: f for n, f in UNIT.items() if n not in UNWATCHED},
        unit,
        "div",
        "norm",
        "sqrt",
        "rsqrt",
        "hypot",
        "cdist",
        "dot",
        "pow",
        "log",
    ),
    *twins({n: f for n, f in UNIT.items() if n in UNWATCHED}, unit, *ANY),
    *twins(MAXIMUM, maximum_norm, "max", "div", "sort", "topk"),
    *twins({"F.lp_pool2d": lambda x: F.lp_pool2d(x, 4, 2)}, p_norm, "pow", "lp_pool2d"),
    *twins(INSTANCE, instance_norm, "norm", "var", "div"),
    *twins(RMS, rms, "rms_norm", "mul", expect="explained"),
    *twins(LOCAL, local, "local_response_norm", "div", "avg_pool1d"),
]
