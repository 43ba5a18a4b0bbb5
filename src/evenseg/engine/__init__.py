"""Training and measuring one configuration; the parts that need Lightning load on first use."""

from evenseg.engine.build import loss_sections
from evenseg.engine.checks import check_signatures, cross_check
from evenseg.engine.evaluate import evaluate
from evenseg.engine.export import export
from evenseg.engine.fit_edges import FittedEdges, fit_edges
from evenseg.engine.form import json_schema
from evenseg.engine.placement import is_first_process
from evenseg.engine.predict import Predicted, predict
from evenseg.engine.resolve import Experiment, resolve
from evenseg.engine.run_folder import is_finished, is_resumable
from evenseg.engine.train import loss_name, resume, run, train

__all__ = [
    "Experiment",
    "FittedEdges",
    "Predicted",
    "check_signatures",
    "cross_check",
    "evaluate",
    "export",
    "fit_edges",
    "is_finished",
    "is_first_process",
    "is_resumable",
    "json_schema",
    "loss_name",
    "loss_sections",
    "predict",
    "resolve",
    "resume",
    "run",
    "train",
]
