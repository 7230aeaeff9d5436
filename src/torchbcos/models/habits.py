"""Words of timm, torchvision and the official package, and what each is here: whoever comes from there is told.

Each sentence goes on after the word: "resnet18 has no option 'in_chans': it is in_channels here, …".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torchbcos._core.names import nearest, said

__all__ = ["ATTRIBUTES", "OPTIONS", "habit_of"]


_CHANNELS = "it is in_channels here, and counts encoded channels: 2 for grey pictures, 6 for RGB"
_MAPS = "forward_stages(x) of every network returns its feature maps, and feature_info describes them"
_CARD = "what is known of weights is their card: torchbcos.load(...).card"
_POOLED = "the mean over space is a part of the classifier; num_classes=0 gives a network that returns pooled features"
_DROPOUT = "B-cos networks have no dropout; stochastic_depth leaves out whole branches"
_WEIGHTS = "it is weights=FILE_OR_FOLDER here"
_SIZES = "sizes belong to the name (torchbcos.list_models() names all); width_factor makes many networks narrower or wider"
_LAYERS = "layers are chosen by plain, b, max_out and norm here"
_ACTIVATION = "it is activation here, 'none', 'relu' or 'gelu'; B-cos networks have none of their own, plain=True has them"
_EXPORT = "nothing has to be set for torch.export or ONNX; torch.jit.script is not supported"
_ANY_SIZE = "every network takes pictures of any size (transformers: multiples of their patch)"
_STRIDES = "strides belong to the name"
_FRESH = "nothing has to be set to zero: blocks begin as their layers do"

# arguments of create_model and of the makers of networks
OPTIONS: Mapping[str, str] = {
    **said("in_chans in_chan num_channels input_channels channels", _CHANNELS),
    **said("num_labels num_class n_classes nb_classes out_features", "it is num_classes here"),
    **said("features_only out_indices feature_cfg", _MAPS),
    **said("global_pool pool_type", _POOLED),
    **said("pretrained_cfg pretrained_cfg_overlay default_cfg", _CARD),
    **said("checkpoint_path pretrained_path state_dict", _WEIGHTS),
    **said("drop_path_rate drop_path stochastic_depth_prob", "it is stochastic_depth here, of networks with residual branches"),
    **said("drop_rate dropout head_dropout attn_drop_rate proj_drop_rate attention_dropout drop_block_rate", _DROPOUT),
    **said("norm_layer", "it is norm here, a word such as 'batch' or 'position'"),
    **said("bn_eps norm_epsilon", "it is norm_eps here"),
    **said("bn_momentum", "it is the attribute momentum of every torchbcos.nn.BatchNorm here"),
    **said("act act_layer activation_layer", _ACTIVATION),
    **said("conv_layer linear_layer block block_args", _LAYERS),
    **said("aa_layer blur_pool", "it is antialias=True here"),
    **said("logit_temperature", "it is temperature here"),
    **said("ls_init_value init_values layer_scale_init_value", "it is layer_scale here, of ConvNeXt"),
    **said("output_stride replace_stride_with_dilation", _STRIDES),
    **said("zero_init_last zero_init_residual weight_init", _FRESH),
    **said("img_size image_size input_size dynamic_img_size", _ANY_SIZE),
    **said("patch_size embed_dim depths dims layers num_heads mlp_ratio qkv_bias class_token base_width", _SIZES),
    **said("width_per_group cardinality groups growth_rate num_init_features bn_size", _SIZES),
    **said("scriptable exportable no_jit", _EXPORT),
    **said("strict", "weights are always read strictly: what does not fit is refused"),
    **said("progress cache_dir", "official weights are downloaded once, with a bar, into torch.hub.get_dir()"),
}  # fmt: skip

# attributes and methods of networks
ATTRIBUTES: Mapping[str, str] = {
    **said("forward_intermediates get_intermediate_layers", _MAPS),
    **said("default_cfg pretrained_cfg", _CARD),
    **said("global_pool avgpool pre_logits head_hidden_size", _POOLED),
    **said("explain attribute attr", "it is torchbcos.explain(net.eval(), x, targets), on encoded input"),
    **said("predict predict_proba", "torchbcos.Classifier(net) predicts; torchbcos.load(...) gives one with weights"),
    **said("fit", "'torchbcos train' in a shell trains, or torchbcos.training.train(recipe, data, out)"),
    **said("save save_pretrained push_to_hub", "it is torchbcos.save(net, FOLDER)"),
    **said("from_pretrained load", "it is torchbcos.load(NAME_OR_FOLDER), or create_model(NAME, weights=...)"),
    **said("set_grad_checkpointing", "there is no such switch; in training, accumulate=N takes N smaller batches a step"),
}


def habit_of(word: str, known: Iterable[str]) -> tuple[str, str] | None:
    """The foreign word that `word` is, or is most like, and what it is here; None where a name of ours is more like it.

    >>> habit_of("in_chans", ["in_channels", "norm"])
    ('in_chans', 'it is in_channels here, and counts encoded channels: 2 for grey pictures, 6 for RGB')
    >>> habit_of("nrom", ["in_channels", "norm"]) is None
    True
    """
    if word in OPTIONS:
        return word, OPTIONS[word]
    close = nearest(word, [*known, *OPTIONS], limit=1)
    return (close[0], OPTIONS[close[0]]) if close and close[0] in OPTIONS else None
