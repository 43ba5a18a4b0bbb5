"""Run folders, studies and evaluations as one self-contained HTML page each; reads folders only, needs no torch."""

from evenseg.report.evaluation import write_evaluation_report
from evenseg.report.page import write_run_report, write_study_report

__all__ = ["write_evaluation_report", "write_run_report", "write_study_report"]
