"""Evaluation: quality, averages, calibration, diversity, spread, barriers, novelty, and tests with power of networks."""

from wflib.evaluation.agreement import agreement, total_variation
from wflib.evaluation.audit import COPYING_TESTS, Audit, audit_examples, audit_networks, enough_for_an_audit
from wflib.evaluation.averages import AVERAGED, COVERAGES, average_curve, average_scores, nested_averages
from wflib.evaluation.barrier import BARRIER_SCHEMA, Barriers, barrier_table, loss_barriers
from wflib.evaluation.chains import ChainDiagnostics, chain_diagnostics, diagnose_networks
from wflib.evaluation.classifier import ClassifierTest, classifier_test
from wflib.evaluation.clusters import clustered_difference, holm, one_per_cluster
from wflib.evaluation.copying import close_test, detectable_by_closeness, detectable_by_ratio, ratio_with_error, share_test
from wflib.evaluation.density import density_table, ranking_quality
from wflib.evaluation.diversity import jensen_shannon_divergences, jensen_shannon_diversity, kernel_divergences, over_pairs
from wflib.evaluation.draws import DrawQuality
from wflib.evaluation.features import Features, network_features
from wflib.evaluation.function_novelty import largest_error_overlap, nearest_function
from wflib.evaluation.importance import ImportanceWeights, flow_importance, importance_weights, weighted_average
from wflib.evaluation.key_metrics import key_metrics
from wflib.evaluation.moments import MOMENT_SCHEMA, tensor_moments
from wflib.evaluation.neighbours import CopyingAudit, audit_copying, nearest_of_sets
from wflib.evaluation.novelty import error_overlap, nearest_distance, thin_trajectories
from wflib.evaluation.output_scale import best_output_factor, with_output_factor, without_output_scale
from wflib.evaluation.parts import PART_SCHEMA, Rival, part_quality, rivals
from wflib.evaluation.pictures import PICTURE_SCHEMA, weight_pictures
from wflib.evaluation.quality import (
    bayesian_model_average,
    brier_score,
    expected_calibration_error,
    mean_and_std,
)
from wflib.evaluation.regression import gaussian_nll, mixture_nll, noise_deviation, root_mean_squared_error
from wflib.evaluation.reliability import RELIABILITY_SCHEMA, reliability_table
from wflib.evaluation.response import response_summary, response_tenths
from wflib.evaluation.sentences import NO_AUDIT, beaten, verdict
from wflib.evaluation.standard_errors import MeanDifference, MeanEstimate, compare_means, estimate_mean
from wflib.evaluation.summary import (
    CURVE_SCHEMA,
    GROUP_SCHEMA,
    NETWORK_SCHEMA,
    copying_ratio,
    evaluate_networks,
    sampling_quality,
    training_mistakes,
)
from wflib.evaluation.symmetry import SYMMETRY_SCHEMA, symmetry_distances
from wflib.evaluation.tables import TABLES
from wflib.evaluation.two_sample import density_coverage, kernel_test, loss_test, norm_test
from wflib.evaluation.uncertainty import (
    interval_coverage,
    out_of_distribution_auroc,
    predictive_entropy,
    selective_accuracy,
)
from wflib.evaluation.variance import VarianceRatio, variance_ratio
from wflib.evaluation.weight_space import evaluate_weights, weights_alone

__all__ = [
    "AVERAGED",
    "BARRIER_SCHEMA",
    "COPYING_TESTS",
    "COVERAGES",
    "CURVE_SCHEMA",
    "GROUP_SCHEMA",
    "MOMENT_SCHEMA",
    "NETWORK_SCHEMA",
    "NO_AUDIT",
    "PART_SCHEMA",
    "PICTURE_SCHEMA",
    "RELIABILITY_SCHEMA",
    "SYMMETRY_SCHEMA",
    "TABLES",
    "Audit",
    "Barriers",
    "ChainDiagnostics",
    "ClassifierTest",
    "CopyingAudit",
    "DrawQuality",
    "Features",
    "ImportanceWeights",
    "MeanDifference",
    "MeanEstimate",
    "Rival",
    "VarianceRatio",
    "agreement",
    "audit_copying",
    "audit_examples",
    "audit_networks",
    "average_curve",
    "average_scores",
    "barrier_table",
    "bayesian_model_average",
    "beaten",
    "best_output_factor",
    "brier_score",
    "chain_diagnostics",
    "classifier_test",
    "close_test",
    "clustered_difference",
    "compare_means",
    "copying_ratio",
    "density_coverage",
    "density_table",
    "detectable_by_closeness",
    "detectable_by_ratio",
    "diagnose_networks",
    "enough_for_an_audit",
    "error_overlap",
    "estimate_mean",
    "evaluate_networks",
    "evaluate_weights",
    "expected_calibration_error",
    "flow_importance",
    "gaussian_nll",
    "holm",
    "importance_weights",
    "interval_coverage",
    "jensen_shannon_divergences",
    "jensen_shannon_diversity",
    "kernel_divergences",
    "kernel_test",
    "key_metrics",
    "largest_error_overlap",
    "loss_barriers",
    "loss_test",
    "mean_and_std",
    "mixture_nll",
    "nearest_distance",
    "nearest_function",
    "nearest_of_sets",
    "nested_averages",
    "network_features",
    "noise_deviation",
    "norm_test",
    "one_per_cluster",
    "out_of_distribution_auroc",
    "over_pairs",
    "part_quality",
    "predictive_entropy",
    "ranking_quality",
    "ratio_with_error",
    "reliability_table",
    "response_summary",
    "response_tenths",
    "rivals",
    "root_mean_squared_error",
    "sampling_quality",
    "selective_accuracy",
    "share_test",
    "symmetry_distances",
    "tensor_moments",
    "thin_trajectories",
    "total_variation",
    "training_mistakes",
    "variance_ratio",
    "verdict",
    "weight_pictures",
    "weighted_average",
    "weights_alone",
    "with_output_factor",
    "without_output_scale",
]
