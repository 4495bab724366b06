"""Bringing a dataset to this disk: generated, downloaded, or imported from what a person downloaded."""

from segue.acquire.get import GetOptions, get
from segue.acquire.receipt import Verified, verify
from segue.acquire.references import bring_reference

__all__ = ["GetOptions", "Verified", "bring_reference", "get", "verify"]
