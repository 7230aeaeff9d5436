"""The table: what each operation of torch does a linear map that is held (printed in docs/explanation/kinds.md)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from torchbcos._core.atoms import atoms
from torchbcos.kinds.call import Call, Outcome, Rule
from torchbcos.kinds.operation import Operation, functions_of, key_of, spelled, writes
from torchbcos.kinds.rules import attention, choices, gates, linear, norms, products, reading, sums

__all__ = ["TABLE", "Row", "look", "register_rule", "rule_of"]


class Row(NamedTuple):
    """Operations that are treated alike.

    Attributes:
        rule: what is done; its docstring says why.
        names: of the operations, as torch has them.
    """

    rule: Rule
    names: str


def look(call: Call) -> Outcome:
    """Sizes, dtypes and devices: nothing of the numbers."""
    raise NotImplementedError


# fmt: off
TABLE: tuple[Row, ...] = (
    Row(linear.map_with_bias, "linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d"),
    Row(linear.view, """view reshape flatten unflatten ravel permute transpose swapaxes swapdims t T mT H
        movedim moveaxis squeeze unsqueeze expand broadcast_to repeat tile repeat_interleave contiguous clone
        type float double half bfloat16 cpu cuda getitem select narrow index_select take_along_dim gather take
        masked_select split split_with_sizes tensor_split chunk unbind hsplit vsplit dsplit diagonal diag flip fliplr flipud
        roll rot90 unfold pixel_shuffle pixel_unshuffle channel_shuffle real tril triu dropout dropout1d dropout2d dropout3d
        feature_dropout neg negative positive interpolate upsample grid_sample upsample_nearest2d
        upsample_bilinear2d upsample_bicubic2d as_strided as_subclass __iter__ requires_grad_ retain_grad
        slice alias _to_copy _unsafe_view lift_fresh_copy"""),
    Row(linear.shaped_as, "view_as reshape_as expand_as type_as to"),
    Row(linear.alpha_dropout, "alpha_dropout feature_alpha_dropout"), Row(linear.each, "atleast_1d atleast_2d atleast_3d"),
    Row(linear.like, """zeros_like ones_like empty_like full_like rand_like randn_like randint_like new_zeros new_ones new_empty
        new_full new_tensor new_empty_strided empty empty_strided empty_permuted"""),
    Row(linear.linear_map, """sum mean nansum cumsum diff trace avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d
        adaptive_avg_pool2d adaptive_avg_pool3d max_unpool1d max_unpool2d max_unpool3d fold im2col col2im affine_grid
        sum_to_size"""),
    Row(choices.choice, """max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
        max_pool2d_with_indices fractional_max_pool2d amax amin sort topk kthvalue median nanmedian msort cummax cummin
        aminmax"""),
    Row(choices.largest, "max min"), Row(choices.finite, "nan_to_num"),
    Row(sums.extremum, "maximum minimum fmax fmin"),
    Row(sums.choose, "where_method where"),
    Row(sums.fill, "masked_fill"), Row(sums.refill, "fill zero"),
    Row(sums.add, "add"),
    Row(sums.subtract, "sub subtract rsub"),
    Row(sums.join, "cat concat concatenate stack hstack vstack dstack column_stack row_stack"),
    Row(sums.pad, "pad constant_pad_nd"),
    Row(sums.overwrite, """setitem copy index_copy scatter scatter_add index_put masked_scatter slice_scatter
        select_scatter index_fill"""),
    Row(sums.index_add, "index_add"),
    Row(sums.addcmul, "addcmul"), Row(sums.addcdiv, "addcdiv"), Row(sums.lerp, "lerp"),
    Row(sums.addmm, "addmm addbmm baddbmm addmv"),
    Row(products.multiply, "mul multiply matmul rmatmul mm bmm mv dot inner outer ger tensordot"),
    Row(products.divide, "div divide true_divide"), Row(products.reversed_divide, "rdiv"),
    Row(products.einsum, "einsum"),
    Row(products.power, "pow float_power"), Row(products.square, "square"),
    Row(gates.rectifier, "relu leaky_relu prelu rrelu"),
    Row(gates.activation, """relu6 gelu silu mish hardswish elu celu selu tanh hardtanh clamp clamp_min clamp_max clip
        softplus softsign tanhshrink hardshrink softshrink logsigmoid log_sigmoid threshold"""),
    Row(gates.held, """sigmoid expit hardsigmoid softmax softmin argmax argmin argsort gt lt ge le eq ne isfinite isnan sign
        heaviside bucketize"""), Row(gates.glu, "glu"),
    Row(norms.batch_norm, "batch_norm"), Row(norms.layer_norm, "layer_norm"), Row(norms.group_norm, "group_norm"),
    Row(norms.instance_norm, "instance_norm"), Row(norms.rms_norm, "rms_norm"), Row(norms.normalize, "normalize"),
    Row(norms.moments, "var_mean std_mean"), Row(norms.local_response_norm, "local_response_norm"),
    Row(attention.attention, "scaled_dot_product_attention"), Row(attention.multihead, "multi_head_attention_forward"),
    Row(reading.cut, "detach data"), Row(reading.listen, "register_hook register_post_accumulate_grad_hook"),
    Row(reading.read, """item tolist numpy __array__ __float__ __int__ __index__ __complex__ data_ptr untyped_storage storage
        __dlpack__ __reduce_ex__ __repr__ __str__ __format__"""),
    Row(reading.counted, "nonzero argwhere unique unique_consecutive bincount"),
    Row(look, """size dim ndimension ndim numel nelement stride storage_offset element_size get_device shape dtype device
        layout is_contiguous is_floating_point is_complex is_cuda is_cpu is_leaf is_sparse is_mps is_meta is_quantized
        is_mkldnn is_nested is_inference is_same_size requires_grad grad grad_fn output_nr names nbytes itemsize __len__
        __bool__ __hash__ _version _is_view _base is_xla is_xpu is_vulkan is_ipu is_maia is_conj
        is_neg is_signed is_pinned is_shared __contains__ equal allclose sym_size _assert_tensor_metadata"""),
)
# fmt: on

_registered: dict[Any, Rule] = {}


@functools.cache
def _rules() -> dict[Any, tuple[Rule, Operation]]:
    """The rule and the name of every function that the table, or the list of atoms, has."""
    found: dict[Any, tuple[Rule, Operation]] = {}
    for rule, names in TABLE:
        for name in names.split():
            shown = "look" if rule is look else name
            found[f"aten::{name}"], found[f"aten::{name}_"] = (rule, Operation(shown)), (rule, Operation(shown, True))
            for function, inplace in functions_of(name):
                found.setdefault(key_of(function), (rule, Operation(shown, inplace)))
    for function, facts in atoms().items():
        found[function] = linear.atom, Operation(f"torchbcos.{function.__name__.strip('_')}" if facts else "")
    return found


def rule_of(function: Callable[..., Any]) -> tuple[Rule, Operation]:
    """The rule of a function and the name of its operation; for one that the table does not have, "everything else"."""
    if function not in _registered:  # most functions stand in the table as they are
        found = _rules().get(function)
        if found is not None:
            return found
    key = key_of(function)
    if key in _registered:
        return _registered[key], Operation(spelled(function), writes(function))
    found = _rules().get(key)
    return found if found is not None else (reading.unknown, Operation("", writes(function)))


def register_rule(operation: Callable[..., Any], rule: Rule) -> None:
    """Say what an operation does to a linear map that is held, for every explanation from here on.

    Args:
        operation: a function of torch, an operation of `torch.library`, or any function that torch can override.
        rule: takes a `torchbcos.kinds.Call` and gives the result and its kind; those of `torchbcos.kinds.rules` serve:
            `linear_map`, `held` (a factor), `activation` (its input times a gate).

    >>> import torch, torchbcos
    >>> torchbcos.register_rule(torch.fft.fftshift, torchbcos.kinds.rules.view)
    """
    _registered[key_of(operation)] = rule
