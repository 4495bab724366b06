"""``export dataset``: one question, three answers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from segue.catalogue import Dataset
from segue.workflow.exporting.monai import export_monai
from segue.workflow.exporting.nnunet import export_nnunet
from segue.workflow.exporting.table import export_table
from segue.workflow.exporting.transfer import Exported

Target = Literal["nnunet", "monai", "csv"]


def export_dataset(dataset: Dataset, to: Target, output: Path, workers: int | None = None) -> Exported:
    """Write ``dataset`` in the form that other programs read; run again, it does only what is missing.

    Files are links (hard where the file system allows, else symbolic); they are rewritten only where the other form
    demands it. ``nnunet`` makes ``output/DatasetNNN_Name`` (``output`` itself where it is named so already), ``monai``
    ``output/datalist.json`` with images and labels beside it, ``csv`` the file ``output`` (or ``output/NAME.csv``).

    A case that cannot be exported is left out and told in the result; the others go on.

    Raises:
        UsageError: a form that does not suit the dataset, or a place that holds something else.
        DataError: no case can be exported.
        MachineError: the disk is full or may not be written.
    """
    if to == "nnunet":
        return export_nnunet(dataset, output, workers)
    if to == "monai":
        return export_monai(dataset, output, workers)
    return export_table(dataset, output)
