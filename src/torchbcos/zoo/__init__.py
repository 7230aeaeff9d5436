"""Weights: cards, files, embedded networks, and classifiers made of them."""

from torchbcos.zoo.build import is_own as is_own
from torchbcos.zoo.card import Card as Card
from torchbcos.zoo.card import official_cards as official_cards
from torchbcos.zoo.classifier import Classifier as Classifier
from torchbcos.zoo.classifier import Prediction as Prediction
from torchbcos.zoo.describe import card_around as card_around
from torchbcos.zoo.describe import card_of as card_of
from torchbcos.zoo.load import create_model as create_model
from torchbcos.zoo.load import list_models as list_models
from torchbcos.zoo.load import load as load
from torchbcos.zoo.official import to_official as to_official
from torchbcos.zoo.saving import save as save
from torchbcos.zoo.saving import write_model as write_model

__all__ = [
    "Card", "Classifier", "Prediction", "card_around", "card_of", "create_model", "is_own", "list_models", "load",
    "official_cards", "save", "to_official", "write_model",
]  # fmt: skip
