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
    some,
    stored_mask,
)
from segue.catalogue.layouts import index, petct_images
from segue.catalogue.library import all_cards, card_names, is_known, load_card, overlap, overlapping
from segue.catalogue.licences import UNSTATED, check_licence, in_words, terms
from segue.catalogue.locate import RECEIPT, card_above, dataset_at, is_look_alike, not_there, open_dataset, resolve
from segue.catalogue.splits import Split, fold_count, require_apart, split_cases, whole, with_folds
from segue.catalogue.verdicts import VERDICTS, Verdict, read_verdicts, spreadsheet_text, write_verdicts

__all__ = [
    "RECEIPT",
    "UNSTATED",
    "VERDICTS",
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
    "Verdict",
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
    "read_verdicts",
    "require_apart",
    "resolve",
    "some",
    "split_cases",
    "spreadsheet_text",
    "stored_mask",
    "terms",
    "whole",
    "with_folds",
    "write_verdicts",
]
