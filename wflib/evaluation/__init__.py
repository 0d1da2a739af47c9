"""Evaluation: quality, model averaging, calibration, diversity, spread, barriers and novelty of networks."""

from wflib.evaluation.barrier import BARRIER_SCHEMA, Barriers, barrier_table, loss_barriers
from wflib.evaluation.density import density_table, ranking_quality
from wflib.evaluation.diversity import jensen_shannon_diversity
from wflib.evaluation.draws import DrawQuality
from wflib.evaluation.moments import MOMENT_SCHEMA, tensor_moments
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
from wflib.evaluation.response import response_summary, response_tenths
from wflib.evaluation.summary import (
    CURVE_SCHEMA,
    GROUP_SCHEMA,
    NETWORK_SCHEMA,
    copying_ratio,
    evaluate_networks,
    sampling_quality,
)
from wflib.evaluation.symmetry import SYMMETRY_SCHEMA, symmetry_distances
from wflib.evaluation.variance import VarianceRatio, variance_ratio

__all__ = [
    "BARRIER_SCHEMA",
    "CURVE_SCHEMA",
    "GROUP_SCHEMA",
    "MOMENT_SCHEMA",
    "NETWORK_SCHEMA",
    "SYMMETRY_SCHEMA",
    "Barriers",
    "DrawQuality",
    "VarianceRatio",
    "accuracy",
    "barrier_table",
    "bayesian_model_average",
    "brier_score",
    "copying_ratio",
    "density_table",
    "error_overlap",
    "evaluate_networks",
    "expected_calibration_error",
    "jensen_shannon_diversity",
    "loss_barriers",
    "mean_and_std",
    "nearest_distance",
    "negative_log_likelihood",
    "predict",
    "ranking_quality",
    "response_summary",
    "response_tenths",
    "sampling_quality",
    "symmetry_distances",
    "tensor_moments",
    "thin_trajectories",
    "variance_ratio",
    "wrong_predictions",
]
