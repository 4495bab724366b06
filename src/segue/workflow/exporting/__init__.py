"""Taking a dataset elsewhere: nnU-Net's folder, MONAI's list, or a table."""

from segue.workflow.exporting.export import Target, export_dataset
from segue.workflow.exporting.transfer import Exported

__all__ = ["Exported", "Target", "export_dataset"]
