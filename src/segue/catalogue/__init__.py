"""What the world knows of a dataset, and how a folder becomes cases."""

from segue.catalogue.card import Card, Channel, Classes, Licence, NpzLayout, RemoteFile
from segue.catalogue.citing import bibtex
from segue.catalogue.dataset import (
    Case,
    Dataset,
    Label,
    Masks,
    Recoded,
    Row,
    Target,
    label_files,
    label_form,
    stored_mask,
)
from segue.catalogue.layouts import index, petct_images
from segue.catalogue.library import all_cards, card_names, is_known, load_card, overlap, overlapping
from segue.catalogue.licences import UNSTATED, check_licence, in_words, terms
from segue.catalogue.locate import RECEIPT, card_above, dataset_at, is_look_alike, not_there, open_dataset, resolve
from segue.catalogue.splits import Split, fold_count, require_apart, split_cases, whole, with_folds

__all__ = [
    "RECEIPT",
    "UNSTATED",
    "Card",
    "Case",
    "Channel",
    "Classes",
    "Dataset",
    "Label",
    "Licence",
    "Masks",
    "NpzLayout",
    "Recoded",
    "RemoteFile",
    "Row",
    "Split",
    "Target",
    "all_cards",
    "bibtex",
    "card_above",
    "card_names",
    "check_licence",
    "dataset_at",
    "fold_count",
    "in_words",
    "index",
    "is_known",
    "is_look_alike",
    "label_files",
    "label_form",
    "load_card",
    "not_there",
    "open_dataset",
    "overlap",
    "overlapping",
    "petct_images",
    "require_apart",
    "resolve",
    "split_cases",
    "stored_mask",
    "terms",
    "whole",
    "with_folds",
]
