"""Networks as people use them: state dicts, modules, files."""

from wflib.networks.networks import Networks
from wflib.networks.stacked_module import StackedModule

__all__ = ["Networks", "StackedModule"]
