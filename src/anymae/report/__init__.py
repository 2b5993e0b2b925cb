"""Pictures and pages: what was hidden, what was made of it, how a run went."""

from anymae.report.plan import Plan, plan
from anymae.report.runs import write_report
from anymae.report.show import show_rows, show_rows_as_text
from anymae.report.survey import Survey, survey

__all__ = ["Plan", "Survey", "plan", "show_rows", "show_rows_as_text", "survey", "write_report"]
