"""Bringing a dataset to this disk: generated, or imported from what a person downloaded."""

from segue.acquire.get import GetOptions, get

__all__ = ["GetOptions", "get"]
