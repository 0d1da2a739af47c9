"""Many networks as one object: state dicts, modules, files, and how well they predict."""

from wflib.networks.beside import tied_names
from wflib.networks.checks import require_tensor
from wflib.networks.finite import LEAVE_OUT, finite_networks, require_finite
from wflib.networks.networks import Networks
from wflib.networks.scoring import (
    accuracy,
    batch_losses,
    example_losses,
    largest_value,
    negative_log_likelihood,
    network_losses,
    output_losses,
    predict,
    require_classification,
    require_networks,
    wrong_predictions,
)
from wflib.networks.stacked_module import StackedModule
from wflib.networks.templates import states_for

__all__ = [
    "LEAVE_OUT",
    "Networks",
    "StackedModule",
    "accuracy",
    "batch_losses",
    "example_losses",
    "finite_networks",
    "largest_value",
    "negative_log_likelihood",
    "network_losses",
    "output_losses",
    "predict",
    "require_classification",
    "require_finite",
    "require_networks",
    "require_tensor",
    "states_for",
    "tied_names",
    "wrong_predictions",
]
