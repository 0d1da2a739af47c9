"""Evaluation: quality, model averaging, calibration, diversity, spread, barriers and novelty of networks."""

from wflib.evaluation.barrier import Barriers, loss_barriers
from wflib.evaluation.diversity import jensen_shannon_diversity
from wflib.evaluation.novelty import error_overlap, nearest_distance, thin_trajectories
from wflib.evaluation.predictions import predict
from wflib.evaluation.quality import (
    accuracy,
    bayesian_model_average,
    brier_score,
    expected_calibration_error,
    mean_and_std,
    negative_log_likelihood,
    wrong_predictions,
)
from wflib.evaluation.summary import GROUP_SCHEMA, NETWORK_SCHEMA, evaluate_networks
from wflib.evaluation.variance import VarianceRatio, variance_ratio

__all__ = [
    "GROUP_SCHEMA",
    "NETWORK_SCHEMA",
    "Barriers",
    "VarianceRatio",
    "accuracy",
    "bayesian_model_average",
    "brier_score",
    "error_overlap",
    "evaluate_networks",
    "expected_calibration_error",
    "jensen_shannon_diversity",
    "loss_barriers",
    "mean_and_std",
    "nearest_distance",
    "negative_log_likelihood",
    "predict",
    "thin_trajectories",
    "variance_ratio",
    "wrong_predictions",
]
