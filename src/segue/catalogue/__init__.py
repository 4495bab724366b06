"""What the world knows of a dataset, and how a folder becomes cases."""

from segue.catalogue.card import Card, Channel, card_names, load_card
from segue.catalogue.dataset import Case, Dataset
from segue.catalogue.layouts import index
from segue.catalogue.locate import RECEIPT, dataset_at, not_there, open_dataset, resolve
from segue.catalogue.splits import Split, split_cases

__all__ = [
    "RECEIPT",
    "Card",
    "Case",
    "Channel",
    "Dataset",
    "Split",
    "card_names",
    "dataset_at",
    "index",
    "load_card",
    "not_there",
    "open_dataset",
    "resolve",
    "split_cases",
]
