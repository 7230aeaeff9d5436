"""Recipes: their settings in groups, the value and its file, and the catalogue of those that come with the package."""

from torchbcos.training.recipe.catalogue import find_recipe as find_recipe
from torchbcos.training.recipe.catalogue import list_recipes as list_recipes
from torchbcos.training.recipe.catalogue import registry as registry
from torchbcos.training.recipe.file import read_recipe as read_recipe
from torchbcos.training.recipe.file import to_toml as to_toml
from torchbcos.training.recipe.file import with_settings as with_settings
from torchbcos.training.recipe.groups import GROUPS as GROUPS
from torchbcos.training.recipe.groups import PROGRAM as PROGRAM
from torchbcos.training.recipe.groups import GuidanceSettings as GuidanceSettings
from torchbcos.training.recipe.groups import MachineSettings as MachineSettings
from torchbcos.training.recipe.groups import NameSettings as NameSettings
from torchbcos.training.recipe.groups import NetworkSettings as NetworkSettings
from torchbcos.training.recipe.groups import OptimisationSettings as OptimisationSettings
from torchbcos.training.recipe.groups import PictureSettings as PictureSettings
from torchbcos.training.recipe.page import default_of as default_of
from torchbcos.training.recipe.page import find_settings as find_settings
from torchbcos.training.recipe.page import settings_page as settings_page
from torchbcos.training.recipe.page import star as star
from torchbcos.training.recipe.page import to_record as to_record
from torchbcos.training.recipe.permission import code_of as code_of
from torchbcos.training.recipe.permission import refuse_code as refuse_code
from torchbcos.training.recipe.setting import Setting as Setting
from torchbcos.training.recipe.value import Recipe as Recipe
from torchbcos.training.recipe.value import differences as differences
from torchbcos.training.recipe.value import from_dict as from_dict
from torchbcos.training.recipe.value import group_of as group_of
from torchbcos.training.recipe.value import list_settings as list_settings
from torchbcos.training.recipe.value import machine_keys as machine_keys
from torchbcos.training.recipe.value import to_dict as to_dict
from torchbcos.training.recipe.value import trajectory_keys as trajectory_keys

__all__ = [
    "GROUPS", "PROGRAM", "GuidanceSettings", "MachineSettings", "NetworkSettings", "OptimisationSettings", "PictureSettings",
    "Recipe", "Setting", "code_of", "default_of", "differences", "find_recipe", "find_settings", "group_of", "list_recipes",
    "list_settings", "machine_keys", "read_recipe", "refuse_code", "registry", "star", "to_dict", "to_record", "to_toml",
    "trajectory_keys", "with_settings",
]  # fmt: skip
