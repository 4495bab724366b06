"""What a person asks for in one go."""

from segue.workflow.demo import create_synthetic_petct, demo
from segue.workflow.experiment import Experiment, budget_options, load_experiment
from segue.workflow.look import CheckResult, check, describe_image, prepare_all
from segue.workflow.measuring import evaluate_folders, evaluate_run, predict
from segue.workflow.training import brought, describe_plan, dry_run, make_plan, train

__all__ = [
    "CheckResult",
    "Experiment",
    "brought",
    "budget_options",
    "check",
    "create_synthetic_petct",
    "demo",
    "describe_image",
    "describe_plan",
    "dry_run",
    "evaluate_folders",
    "evaluate_run",
    "load_experiment",
    "make_plan",
    "predict",
    "prepare_all",
    "train",
]
