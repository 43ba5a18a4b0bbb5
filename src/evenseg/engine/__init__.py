"""Training and measuring one configuration; the parts that need Lightning load on first use."""

from evenseg.engine.evaluate import evaluate
from evenseg.engine.resolve import Experiment, check_signatures, resolve
from evenseg.engine.run_folder import is_finished
from evenseg.engine.train import loss_name, run, train

__all__ = ["Experiment", "check_signatures", "evaluate", "is_finished", "loss_name", "resolve", "run", "train"]
