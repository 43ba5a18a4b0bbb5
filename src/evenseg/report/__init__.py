"""Run folders, studies, evaluations and data sets as one self-contained HTML page each; needs no torch."""

from evenseg.report.data_page import write_data_page
from evenseg.report.evaluation import write_evaluation_report
from evenseg.report.page import write_run_report, write_study_report
from evenseg.report.search_page import write_search_report

__all__ = ["write_data_page", "write_evaluation_report", "write_run_report", "write_search_report", "write_study_report"]
