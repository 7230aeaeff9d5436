"""Pruning by evolution: which channels a network can do without, and whether it still looks at the same things."""

from torchbcos.search.costs import count_flops as count_flops
from torchbcos.search.evolution import hypervolume as hypervolume
from torchbcos.search.groups import Group as Group
from torchbcos.search.groups import find_groups as find_groups
from torchbcos.search.pruning import Pruner as Pruner
from torchbcos.search.running import Pruned as Pruned
from torchbcos.search.running import prune_classifier as prune_classifier
from torchbcos.search.searching import Candidate as Candidate
from torchbcos.search.searching import Judge as Judge
from torchbcos.search.searching import Search as Search
from torchbcos.search.searching import search as search

__all__ = [
    "Candidate", "Group", "Judge", "Pruned", "Pruner", "Search", "count_flops", "find_groups", "hypervolume", "prune_classifier",
    "search",
]  # fmt: skip
