from .commands import report
from .config import ReportConfig
from .making import LIMIT, Report, make_report, of_report

__all__ = ["LIMIT", "Report", "ReportConfig", "make_report", "of_report", "report"]
