"""Networks as people use them: state dicts, modules, files."""

from wflib.networks.checks import require_stacked
from wflib.networks.finite import LEAVE_OUT, finite_networks, require_finite
from wflib.networks.networks import Networks
from wflib.networks.stacked_module import StackedModule

__all__ = ["LEAVE_OUT", "Networks", "StackedModule", "finite_networks", "require_finite", "require_stacked"]
