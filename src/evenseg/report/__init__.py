"""Run folders and studies as one self-contained HTML page each; reads folders only, needs no torch."""

from evenseg.report.page import write_run_report, write_study_report

__all__ = ["write_run_report", "write_study_report"]
