"""Pictures of cases, the report of a run, the reading room.

Each name is imported when it is first asked for: the page of a check draws without matplotlib, which takes a second to
import.
"""

from typing import TYPE_CHECKING

from segue.core.lazy import on_demand

if TYPE_CHECKING:
    from segue.view.comparison import write_comparison_page
    from segue.view.picture import case_picture
    from segue.view.report import write_report

__getattr__ = on_demand(
    __name__,
    {"comparison": ("write_comparison_page",), "picture": ("case_picture",), "report": ("write_report",)},
)

__all__ = ["case_picture", "write_comparison_page", "write_report"]
