"""Pictures and pages: what was hidden, what was made of it, how a run went."""

from anymae.report.plan import Plan, plan
from anymae.report.runs import write_report
from anymae.report.show import show_rows, show_rows_as_text

__all__ = ["Plan", "plan", "show_rows", "show_rows_as_text", "write_report"]
