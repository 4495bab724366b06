"""Pictures of cases and the report of a run."""

from segue.view.comparison import write_comparison_page
from segue.view.picture import case_picture
from segue.view.report import write_report

__all__ = ["case_picture", "write_comparison_page", "write_report"]
