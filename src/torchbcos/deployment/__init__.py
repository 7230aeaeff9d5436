"""Twins for inference and explanation."""

from torchbcos.deployment.fold import deploy as deploy

__all__ = ["deploy"]
