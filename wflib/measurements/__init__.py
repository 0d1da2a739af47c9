"""Measurements: whatever is compared on pages, one file a measurement, registered here by name."""

from wflib.measurements.alignment import ALIGNMENT
from wflib.measurements.averages import AVERAGES
from wflib.measurements.cells import Cells, columns_of, load_cells, run_cell
from wflib.measurements.condition import CONDITION
from wflib.measurements.distillation import DISTILLATION
from wflib.measurements.flows import FLOW
from wflib.measurements.likelihood import LIKELIHOOD
from wflib.measurements.measurement import FILES, Bar, Inputs, Measurement, Silent, Tables
from wflib.measurements.models import MODEL
from wflib.measurements.outside import OUTSIDE
from wflib.measurements.polishing import POLISH
from wflib.measurements.quality import QUALITY
from wflib.measurements.regression import REGRESSION
from wflib.measurements.samplers import SAMPLERS
from wflib.measurements.starts import STARTS
from wflib.measurements.steering import STEERING
from wflib.measurements.toy import TOY
from wflib.measurements.transfer import TRANSFER
from wflib.measurements.zoos import ALIGN, DATA, ZOO

__all__ = ["FILES", "MEASUREMENTS", "Bar", "Cells", "Inputs", "Measurement", "Silent", "Tables"]
__all__ += ["columns_of", "load_cells", "run_cell"]

MADE = (DATA, OUTSIDE, ZOO, ALIGN, FLOW)
OF_FLOWS = (QUALITY, AVERAGES, REGRESSION, SAMPLERS, STEERING, DISTILLATION, POLISH, LIKELIHOOD, CONDITION, TOY)
OF_TASKS = (TRANSFER, STARTS)
MEASUREMENTS = {one.name: one for one in (*MADE, ALIGNMENT, MODEL, *OF_FLOWS, *OF_TASKS)}
"""Name → measurement."""
