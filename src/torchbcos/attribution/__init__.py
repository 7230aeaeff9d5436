"""Post-hoc explanations behind one call; the network's own is one of them."""

from __future__ import annotations

from torchbcos.attribution.activation import GradCam as GradCam
from torchbcos.attribution.activation import HiResCam as HiResCam
from torchbcos.attribution.activation import LayerCam as LayerCam
from torchbcos.attribution.attention import GradientAttention as GradientAttention
from torchbcos.attribution.attention import RawAttention as RawAttention
from torchbcos.attribution.attention import Rollout as Rollout
from torchbcos.attribution.base import Explainer as Explainer
from torchbcos.attribution.base import Found as Found
from torchbcos.attribution.call import attribute as attribute
from torchbcos.attribution.deep_lift import DeepLift as DeepLift
from torchbcos.attribution.gradients import GradientShap as GradientShap
from torchbcos.attribution.gradients import InputXGradient as InputXGradient
from torchbcos.attribution.gradients import IntegratedGradients as IntegratedGradients
from torchbcos.attribution.gradients import Saliency as Saliency
from torchbcos.attribution.gradients import SmoothGrad as SmoothGrad
from torchbcos.attribution.guided_backprop import GuidedBackprop as GuidedBackprop
from torchbcos.attribution.inherent import Inherent as Inherent
from torchbcos.attribution.locality import locality_share as locality_share
from torchbcos.attribution.lrp import Lrp as Lrp
from torchbcos.attribution.methods import METHODS as METHODS
from torchbcos.attribution.methods import register_method as register_method
from torchbcos.attribution.perturbation import Occlusion as Occlusion
from torchbcos.attribution.perturbation import Rise as Rise
from torchbcos.attribution.record import Method as Method
from torchbcos.attribution.result import Attribution as Attribution
from torchbcos.attribution.result import gallery as gallery
from torchbcos.attribution.selected import MovedSelection as MovedSelection
from torchbcos.attribution.selected import moved_selection as moved_selection
from torchbcos.attribution.subject import Subject as Subject
from torchbcos.attribution.surrogate import KernelShap as KernelShap
from torchbcos.attribution.surrogate import Lime as Lime

__all__ = [
    "Attribution",
    "DeepLift",
    "Explainer",
    "Found",
    "GradCam",
    "GradientAttention",
    "GradientShap",
    "GuidedBackprop",
    "HiResCam",
    "Inherent",
    "InputXGradient",
    "IntegratedGradients",
    "KernelShap",
    "LayerCam",
    "Lime",
    "Lrp",
    "METHODS",
    "Method",
    "MovedSelection",
    "Occlusion",
    "RawAttention",
    "Rise",
    "Rollout",
    "Saliency",
    "SmoothGrad",
    "Subject",
    "attribute",
    "gallery",
    "locality_share",
    "moved_selection",
    "register_method",
]
