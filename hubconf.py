"""`torch.hub.load("…/torchbcos", "resnet50", pretrained=True)`: the networks by name."""

from functools import partial

from torchbcos import create_model as _create
from torchbcos import list_models as _list

dependencies = ["torch", "numpy", "PIL", "safetensors", "rich"]
globals().update({_name: partial(_create, _name) for _name in [*_list(), *_list(pretrained=True)]})
