"""Training on Lightning Fabric: recipes, runs that resume, guidance by explanations (`pip install '.[train]'` in a clone)."""

from __future__ import annotations

from torchbcos.training.distillation import explanation_distance as explanation_distance
from torchbcos.training.guidance import energy_inside as energy_inside
from torchbcos.training.guidance import energy_loss as energy_loss
from torchbcos.training.guidance import l1_loss as l1_loss
from torchbcos.training.interrupts import Interrupted as Interrupted
from torchbcos.training.machine import is_first_process as is_first_process
from torchbcos.training.parts import PartLosses as PartLosses
from torchbcos.training.progress import Progress as Progress
from torchbcos.training.recipe import GuidanceSettings as GuidanceSettings
from torchbcos.training.recipe import MachineSettings as MachineSettings
from torchbcos.training.recipe import NetworkSettings as NetworkSettings
from torchbcos.training.recipe import OptimisationSettings as OptimisationSettings
from torchbcos.training.recipe import PictureSettings as PictureSettings
from torchbcos.training.recipe import Recipe as Recipe
from torchbcos.training.recipe import Setting as Setting
from torchbcos.training.recipe import find_recipe as find_recipe
from torchbcos.training.recipe import list_recipes as list_recipes
from torchbcos.training.recipe import list_settings as list_settings
from torchbcos.training.recipe import read_recipe as read_recipe
from torchbcos.training.recipe import to_toml as to_toml
from torchbcos.training.recipe import with_settings as with_settings
from torchbcos.training.run import train as train

__all__ = [
    "GuidanceSettings", "Interrupted", "MachineSettings", "NetworkSettings", "OptimisationSettings", "PictureSettings",
    "PartLosses", "Progress", "Recipe", "Setting", "energy_inside", "energy_loss", "explanation_distance", "find_recipe",
    "is_first_process", "l1_loss", "list_recipes", "list_settings", "read_recipe", "to_toml", "train", "with_settings",
]  # fmt: skip
