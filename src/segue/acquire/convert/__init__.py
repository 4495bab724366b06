"""DICOM studies to the volumes that a training reads: one folder per patient, one per study."""

from segue.acquire.convert.batch import TABLE, Converted, ConvertOptions, convert, require_converted
from segue.acquire.convert.identity import Naming
from segue.acquire.convert.study import Row

__all__ = ["TABLE", "ConvertOptions", "Converted", "Naming", "Row", "convert", "require_converted"]
