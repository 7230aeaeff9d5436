"""Planted operations without a factor form, in plain sight of whoever watches the forward pass: only a refusal is right."""

from __future__ import annotations

import copy
import io
import math
import pickle

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.unit.kinds.planting import ANY, Case, refused

__all__ = ["SIGNALS"]

_POSITIVE = 200.0  # x / 200 + 1 is positive


def _near_one(x: Tensor) -> Tensor:
    return x / _POSITIVE + 1


class _Recurrent(nn.Module):
    """A recurrent network over the pixels of each picture."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.cells = kind(8, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.cells(x.flatten(2).transpose(1, 2))[0]
        return out.transpose(1, 2).reshape(x.shape)


class _Cells(nn.Module):
    """A recurrent cell by hand, pixel by pixel."""

    def __init__(self, kind: type[nn.RNNCellBase]) -> None:
        super().__init__()
        self.cell = kind(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        state, out = None, []
        for pixel in x.flatten(2).unbind(2)[:4]:
            state = self.cell(pixel, state)
            out.append(state[0] if isinstance(state, tuple) else state)
        return x[:, :, :2, :2] + torch.stack(out, 2).reshape(2, 8, 2, 2)


class _Bilinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.form = nn.Bilinear(6, 6, 6)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.form(x, x)
        return out


def _columns(x: Tensor) -> Tensor:
    """(N, 6, 6, 8): pixels with their channels last."""
    return x.movedim(1, -1)


def _square(x: Tensor) -> Tensor:
    """(N, 8, 8), symmetric and positive."""
    flat = x.flatten(2)
    return flat @ flat.transpose(1, 2) / 36 + torch.eye(8)


def _by_matrix(x: Tensor, m: Tensor) -> Tensor:
    """The rows of a matrix (N, 8, 8) added as a signal."""
    return x + m.mean(-1)[:, :, None, None]


def _under_no_grad(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x * 0.5


_ADDED = {  # what is added to the signal: (value, words of the refusal)
    "sigmoid": (torch.sigmoid, "sigmoid"),
    "expit": (torch.special.expit, "expit"),
    "hardsigmoid": (F.hardsigmoid, "hardsigmoid"),
    "softmax": (lambda x: x.softmax(1), "softmax"),
    "special.softmax": (lambda x: torch.special.softmax(x, 1), "softmax"),
    "log_softmax": (lambda x: x.log_softmax(1), "log_softmax"),
    "logsumexp": (lambda x: x.logsumexp(1, keepdim=True), "logsumexp"),
    "exp": (lambda x: (x / 9).exp(), "exp"),
    "exp2": (lambda x: torch.exp2(x / 9), "exp2"),
    "log": (lambda x: _near_one(x).log(), "log"),
    "sqrt": (lambda x: _near_one(x).sqrt(), "sqrt"),
    "rsqrt": (lambda x: _near_one(x).rsqrt(), "rsqrt"),
    "reciprocal": (lambda x: _near_one(x).reciprocal(), "reciprocal"),
    "1 / x": (lambda x: 1 / _near_one(x), "truediv", "div", "reciprocal"),
    "norm": (lambda x: x.norm(dim=1, keepdim=True), "norm"),
    "vector_norm": (lambda x: torch.linalg.vector_norm(x, dim=1, keepdim=True), "norm"),
    "prod": (lambda x: _near_one(x).prod(1, keepdim=True), "prod"),
    "cumprod": (lambda x: _near_one(x).cumprod(1), "cumprod"),
    "logcumsumexp": (lambda x: x.logcumsumexp(1), "logcumsumexp"),
    "std": (lambda x: x.std(1, keepdim=True), "std"),
    "var": (lambda x: x.var((2, 3), keepdim=True), "var"),
    "cdist": (lambda x: torch.cdist(x, x), "cdist"),
    "pairwise_distance": (lambda x: F.pairwise_distance(x, x.roll(1, 1)).unsqueeze(-1), "pairwise_distance"),
    "cosine_similarity": (lambda x: F.cosine_similarity(x, x.roll(1, 1), dim=1).unsqueeze(1), "cosine_similarity"),
    "geometric mean": (lambda x: x.abs().log().mean(1, keepdim=True).exp(), "abs", "log", "exp"),
    "geometric mean of two": (lambda x: (x * x.roll(1, 1)).abs().sqrt(), "mul", "abs", "sqrt"),
    "cos": (torch.cos, "cos"),
    "atan2": (lambda x: torch.atan2(x, x.roll(1, 1)), "atan2"),
    "lgamma": (lambda x: _near_one(x).lgamma(), "lgamma"),
    "entr": (lambda x: torch.special.entr(x.softmax(1)), "entr", "softmax"),
    "aten.sigmoid": (torch.ops.aten.sigmoid.default, "sigmoid"),
    "aten._softmax": (lambda x: torch.ops.aten._softmax(x, 1, False), "softmax"),
    "TensorBase.sigmoid": (torch._C.TensorBase.sigmoid, "sigmoid"),
    "detach": (lambda x: x.detach() * 0.5, "detach"),
    "data": (lambda x: x.data * 0.5, "data"),
    "no_grad": (_under_no_grad, "mul"),
    "round": (torch.round, "round"),
    "floor": (torch.floor, "floor"),
    "ceil": (torch.ceil, "ceil"),
    "trunc": (torch.trunc, "trunc"),
    "frac": (torch.frac, "frac"),
    "sign": (torch.sign, "sign"),
    "remainder": (lambda x: x % 1.0, "remainder", "mod"),
    "fmod": (lambda x: torch.fmod(x, 1.0), "fmod"),
    "floor division": (lambda x: x // 0.5, "floor_divide", "floordiv"),
    "div, rounded": (lambda x: torch.div(x, 0.5, rounding_mode="floor"), "div"),
    "int": (lambda x: x.int().to(x.dtype), "int"),
    "to(int64)": (lambda x: x.to(torch.int64).double(), "to", "double"),
    "long, times a number": (lambda x: x.long() * 0.5, "long", "mul"),
    "sum of integers": (lambda x: x.int().sum(1, keepdim=True).double(), "int", "sum", "double"),
    "comparison": (lambda x: (x > 0).to(x), "gt"),
    "argmax": (lambda x: x.argmax(1, keepdim=True).double(), "argmax"),
    "one_hot": (lambda x: F.one_hot(x.argmax(1), 8).movedim(-1, 1), "argmax", "one_hot"),
    "argsort": (lambda x: x.argsort(1) * 0.1, "argsort"),
    "bincount": (lambda x: torch.bincount(x.argmax(1).flatten(), minlength=8)[None, :, None, None] * 0.1, "argmax", "bincount"),
    "histc": (lambda x: x.detach().histc(8)[None, :, None, None], "detach", "histc"),
    "count_nonzero": (lambda x: (x > 0).count_nonzero(1).unsqueeze(1), "gt", "count_nonzero"),
    "bucketize": (lambda x: torch.bucketize(x.detach(), torch.linspace(-2, 2, 9)) * 0.1, "detach", "bucketize"),
    "embedding": (lambda x: F.embedding(x.argmax(1), torch.arange(64.0).view(8, 8) / 64).movedim(-1, 1), "argmax", "embedding"),
    "a table, indexed": (lambda x: torch.arange(8.0)[x.argmax(1, keepdim=True)], "argmax", "getitem"),
    "a table, gathered": (
        lambda x: torch.arange(16.0).view(2, 8).gather(1, x.mean((2, 3)).argsort(1))[..., None, None],
        "argsort",
        "gather",
    ),
    "a table, index_select": (
        lambda x: torch.arange(8.0).index_select(0, x.mean((0, 2, 3)).argsort())[:, None, None],
        "argsort",
        "index_select",
    ),
    "a choice of constants": (lambda x: torch.where(x > 0, 0.3, -0.2), "gt", "where"),
    "a choice of tensors": (lambda x: torch.where(x > 0, torch.ones(6), torch.zeros(6)), "gt", "where"),
    "grid_sample of a constant": (
        lambda x: F.grid_sample(torch.ones(2, 8, 4, 4), x[:, :2].tanh().movedim(1, -1), align_corners=False),
        "tanh",
        "grid_sample",
    ),
    "bernoulli": (lambda x: torch.bernoulli(x.detach().sigmoid()), "sigmoid", "bernoulli", "detach"),
    "normal around x": (lambda x: torch.normal(x.detach(), 1.0), "normal", "detach"),
    "noise as loud as x": (lambda x: torch.randn_like(x) * x.std(), "std", "mul"),
    "det": (lambda x: _square(x).logdet()[:, None, None, None], "matmul", "logdet"),
    "fft, its size": (lambda x: torch.fft.fft2(x).abs(), "fft", "abs"),
    "rfft, its angle": (lambda x: torch.fft.rfft(x).angle().mean(-1, keepdim=True), "fft", "angle"),
    "complex, its size": (lambda x: torch.complex(x, 0.5 * x.roll(1, 1)).abs(), "complex", "abs"),
    "view_as_complex": (
        lambda x: torch.view_as_complex(x.unflatten(1, (4, 2)).movedim(2, -1).contiguous()).abs().repeat(1, 2, 1, 1),
        "complex",
        "abs",
    ),
    "polar": (lambda x: torch.polar(x.abs(), x).real, "abs", "polar"),
    "the gradient of an energy": (lambda x: torch.autograd.grad(x.pow(4).sum(), x, create_graph=True)[0], *ANY),
    "torch.func.grad": (lambda x: torch.func.grad(lambda t: t.pow(4).sum())(x), *ANY),
    "jvp": (lambda x: torch.func.jvp(torch.sin, (x,), (x,))[1], *ANY),
    "vmap of exp": (lambda x: torch.vmap(lambda t: (t / 9).exp())(x), *ANY),
    "x.clone().exp_()": (lambda x: (x / 9).exp_(), "exp"),
    "float of the mean": (lambda x: float(x.detach().mean()), "float"),
    "item of the mean": (lambda x: x.detach().mean().item(), "item"),
    "item of each": (lambda x: torch.tensor([[v.item()] for v in x.detach().mean((1, 2, 3))]).view(2, 1, 1, 1), "item"),
    "tolist": (lambda x: torch.tensor(x.tolist()) * 0.1, "tolist"),
    "a list of floats": (lambda x: torch.tensor([float(v) for v in x.detach().mean((0, 2, 3))]).view(8, 1, 1), "float"),
    "math.sqrt": (lambda x: math.sqrt(x.detach().square().mean()), "float"),
    "text of a number": (lambda x: float(f"{x.detach().mean():.12f}"), "format"),
    "text of a tensor": (lambda x: float(str(x.detach().mean().item())), "item"),
    "round(x)": (lambda x: round(float(x.detach().mean()), 3), "float"),
    "full": (lambda x: torch.full_like(x, float(x.detach().mean())), "float"),
    "full of a tensor": (lambda x: torch.zeros_like(x).fill_(x.detach().mean()), "fill_", "detach", "mean"),
    "new": (lambda x: x.new(x.detach().tolist()), "new", "tolist"),
    "new_full": (lambda x: x.new_full((1,), x.detach().mean().item()), "item"),
    "arange": (lambda x: torch.arange(6) * x.detach().mean().item(), "item"),
    "linspace": (lambda x: torch.linspace(0, x.detach().mean().item(), 6), "item"),
    "numpy": (lambda x: torch.from_numpy(x.detach().numpy() * 0.5), "numpy"),
    "numpy through a list": (lambda x: torch.tensor(x.detach().numpy().tolist()) * 0.5, "numpy"),
    "asarray": (lambda x: torch.as_tensor(np.asarray(x.detach()) * 0.5), "array"),
    "np.sin": (lambda x: torch.as_tensor(np.sin(x.detach().numpy())), "numpy"),
    "np.sum": (lambda x: float(np.asarray(x.detach()).sum()), "array"),
    "numpy of a mean": (lambda x: float(x.detach().mean().numpy()), "numpy"),
    "torch.asarray": (lambda x: torch.asarray(x.detach(), copy=True), "asarray", "detach"),
    "torch.tensor of a tensor": (lambda x: torch.stack([torch.as_tensor(t) for t in x.detach()]), "detach", "as_tensor"),
    "dlpack": (lambda x: torch.from_dlpack(x.detach() * 0.5), "dlpack"),
    "dlpack, the old way": (lambda x: torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(x.detach() * 0.5)), *ANY),
    "pickle": (lambda x: pickle.loads(pickle.dumps(x.detach() * 0.5)), *ANY),
    "pickle, with its gradient": (lambda x: pickle.loads(pickle.dumps(x)), *ANY),
    "deepcopy": (lambda x: copy.deepcopy(x.detach() * 0.5), "deepcopy", "detach", "mul"),
    "storage": (lambda x: torch.tensor(x.detach().clone().untyped_storage().tolist()[::480]).double()[0] / 99, "storage"),
    "set_ to a storage": (
        lambda x: torch.empty(0).set_((x * 0.5).detach().untyped_storage(), 0, (2, 8, 6, 6)),
        "storage",
        "set_",
    ),
    "share_memory_": (lambda x: (x.detach() * 0.5).share_memory_(), "share_memory", "detach", "mul"),
    "apply_": (lambda x: x.detach().clone().apply_(lambda v: v * v), "apply_", "detach", "clone"),
    "torch.save": (lambda x: _saved(x.detach() * 0.5), *ANY),
    "a Parameter made of x": (lambda x: nn.Parameter(x.detach() * 0.5), *ANY),
    "requires_grad_ of a detached": (lambda x: x.detach().requires_grad_(), "detach"),
    "as a Parameter": (lambda x: x.sigmoid().as_subclass(nn.Parameter), *ANY),
}


def _saved(x: Tensor) -> Tensor:
    file = io.BytesIO()
    torch.save(x, file)
    file.seek(0)
    loaded: Tensor = torch.load(file)
    return loaded


def _joined(x: Tensor) -> Tensor:
    return torch.cat([x[:, :4], x[:, :4].sigmoid()], 1)


def _written(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :2] = y[:, 2:4].sigmoid()
    return y


def _written_view(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :2].sigmoid_()
    return y


def _masked_write(x: Tensor) -> Tensor:
    y = x.clone()
    y[y > 1] = 1.0
    return y * 1.0 + (x > 1).to(x)


def _index_add(x: Tensor, times: Tensor) -> Tensor:
    return x.index_add(1, torch.tensor([0, 3, 3]), torch.ones(2, 3, 6, 6), alpha=times)  # type: ignore[arg-type]


_WHOLE = {  # the planted operation itself: (operation, words of the refusal)
    "sigmoid, whole": (torch.sigmoid, "sigmoid"),
    "softmax, whole": (lambda x: x.softmax(1) * 8, "softmax"),
    "cat of a gate": (_joined, "cat", "sigmoid"),
    "stack of a gate": (lambda x: torch.stack([x, x.sigmoid()]).mean(0), "stack", "sigmoid"),
    "a gate written into a signal": (_written, "setitem", "sigmoid"),
    "a view edited in place": (_written_view, "sigmoid"),
    "addcmul of a gate": (lambda x: torch.addcmul(x, torch.ones(6), x.sigmoid()), "addcmul", "'add'"),
    "addcdiv of a gate": (lambda x: torch.addcdiv(x, torch.ones(6), 1 + x.sigmoid()), "addcdiv", "'add'"),
    "add with a moving alpha": (lambda x: torch.add(x, torch.ones(6), alpha=x.detach().mean().item()), "item"),
    "sub of a gate": (lambda x: x.sub(x.sigmoid()), "sub", "sigmoid"),
    "rsub of a gate": (lambda x: torch.rsub(x, x.sigmoid()), "sub", "sigmoid"),
    "baddbmm of a gate": (
        lambda x: torch.baddbmm(x.flatten(2).sigmoid(), torch.eye(8).expand(2, 8, 8), x.flatten(2)).view_as(x),
        "baddbmm",
        "'add'",
    ),
    "a moving bias": (
        lambda x: F.conv2d(x, torch.eye(8)[..., None, None], bias=x.sigmoid().mean((0, 2, 3))),
        "conv2d",
        "sigmoid",
    ),
    "a moving bias of linear": (lambda x: F.linear(x, torch.eye(6), x.sigmoid().mean((0, 1, 2))), "linear", "sigmoid"),
    "a moving shift of layer_norm": (lambda x: F.layer_norm(x, (6, 6), bias=x.sigmoid().mean((0, 1))), "layer_norm", "sigmoid"),
    "a moving shift of group_norm": (lambda x: F.group_norm(x, 4, bias=x.sigmoid().mean((0, 2, 3))), "group_norm", "sigmoid"),
    "a moving mean of batch_norm": (
        lambda x: F.batch_norm(x, x.sigmoid().mean((0, 2, 3)).detach(), torch.ones(8)),
        "batch_norm",
        "sigmoid",
        "detach",
    ),
    "pad by a moving number": (lambda x: F.pad(x, (1, 1, 1, 1), value=x.detach().mean().item()), "item", "pad"),
    "masked_fill by a moving number": (lambda x: x.masked_fill(torch.eye(6) > 0, x.detach().mean()), "masked_fill", "detach"),
    "masked_scatter": (lambda x: x.masked_scatter(torch.eye(6) > 0, x.sigmoid()), "masked_scatter", "sigmoid"),
    "index_put_": (lambda x: x.clone().index_put_((torch.tensor(0),), x[0].sigmoid()), "index_put", "sigmoid"),
    "index_add": (lambda x: x.index_add(1, torch.tensor([0]), x[:, :1].sigmoid()), "index_add", "sigmoid"),
    "scatter_add": (
        lambda x: x.scatter_add(1, torch.zeros(2, 8, 6, 6, dtype=torch.int64), x.sigmoid()),
        "scatter_add",
        "sigmoid",
    ),
    "where with a gate": (lambda x: torch.where(x > 0, x, x.sigmoid()), "where", "sigmoid"),
    "maximum of a gate": (lambda x: torch.maximum(x, x.sigmoid()), "maximum", "sigmoid"),
    "clamp by a gate": (lambda x: x.clamp(min=x.sigmoid()), "clamp", "sigmoid"),
    "copy_ of a gate": (lambda x: x.clone().copy_(x.sigmoid()), "copy", "sigmoid"),
    "pow of a moving exponent": (lambda x: _near_one(x) ** x.sigmoid(), "pow", "sigmoid"),
    "padding by a gate": (lambda x: F.pad(x, (1, 1, 1, 1), value=x.detach().mean()), "pad", "detach"),
    "padding by a count": (lambda x: F.pad(x, (1, 1, 1, 1), value=(x > 0).sum()), "pad"),
    "index_add, times a count": (lambda x: _index_add(x, (x > 0).sum()), "index_add"),
    "index_add, times a gate": (lambda x: _index_add(x, x.detach().mean()), "index_add", "detach"),
    "diff from a count": (lambda x: x.diff(prepend=(x > 0).sum((0, 1, 2)).expand(2, 8, 6, 6)[..., :1]), "diff"),
    "2 ** x": (lambda x: 2 ** (x / 9), "pow"),
    "x ** 0.5": (lambda x: _near_one(x) ** 0.5, "pow"),
    "matrix_exp": (lambda x: torch.matrix_exp(x / 9), "matrix_exp"),
    "inverse": (lambda x: _by_matrix(x, _square(x).inverse()), "matmul", "inverse"),
    "svd": (lambda x: _by_matrix(x, torch.linalg.svd(_square(x))[0]), "matmul", "svd"),
    "cholesky": (lambda x: _by_matrix(x, torch.linalg.cholesky(_square(x))), "matmul", "cholesky"),
    "covariance": (lambda x: _by_matrix(x, _square(x)), "matmul"),
    "outer product": (lambda x: torch.einsum("nchw,nchv->nchv", x, x), "einsum"),
    "bilinear": (lambda x: F.bilinear(x, x, torch.ones(6, 6, 6)), "bilinear"),
    "the batch is mixed": (lambda x: x + 0.5 * x.flip(0), *ANY),
    "the batch is averaged": (lambda x: x - x.mean(0, keepdim=True), *ANY),
    "the batch is rolled": (lambda x: x.roll(1, 0), *ANY),
}

SIGNALS: list[Case] = [
    *(
        refused(f"x + {name}", lambda x, f=value[0]: x + f(x), *(value[1:] if value[1:] == ANY else ("'add'", *value[1:])))
        for name, value in _ADDED.items()
    ),
    *(refused(name, value[0], *value[1:]) for name, value in _WHOLE.items()),
    Case("LSTM", lambda: _Recurrent(nn.LSTM), None, ("lstm", "LSTM")),
    Case("GRU", lambda: _Recurrent(nn.GRU), None, ("gru", "GRU")),
    Case("RNN", lambda: _Recurrent(nn.RNN), None, ("rnn", "RNN")),
    Case("LSTMCell", lambda: _Cells(nn.LSTMCell), None, ("lstm", "LSTM")),
    Case("GRUCell", lambda: _Cells(nn.GRUCell), None, ("gru", "GRU")),
    Case("nn.Bilinear", _Bilinear, None, ("bilinear", "Bilinear")),
]
