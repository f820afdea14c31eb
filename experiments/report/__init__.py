"""Reports of runs: one page, tables and figures in a folder (`steer report`; docs/reports.md).

`write_report` writes them; `experiments.report.figures` has the figures, `experiments.report.arm_frame.arms_frame` the numbers.
"""

from __future__ import annotations

from .evidence import Evidence, Unavailable, gather
from .writing import FORMATS, Report, write_report

__all__ = ["FORMATS", "Evidence", "Report", "Unavailable", "gather", "write_report"]
