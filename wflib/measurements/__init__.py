"""Measurements: whatever is compared on pages, one file a measurement, registered here by name."""

from wflib.measurements.alignment import ALIGNMENT
from wflib.measurements.cells import Cells, columns_of, load_cells, run_cell
from wflib.measurements.condition import CONDITION
from wflib.measurements.distillation import DISTILLATION
from wflib.measurements.flows import FLOW
from wflib.measurements.likelihood import LIKELIHOOD
from wflib.measurements.measurement import FILES, Bar, Inputs, Measurement, Silent, Tables
from wflib.measurements.models import MODEL
from wflib.measurements.polishing import POLISH
from wflib.measurements.samplers import SAMPLERS
from wflib.measurements.zoos import ALIGN, ZOO

__all__ = ["FILES", "MEASUREMENTS", "Bar", "Cells", "Inputs", "Measurement", "Silent", "Tables"]
__all__ += ["columns_of", "load_cells", "run_cell"]

MEASUREMENTS = {
    one.name: one for one in (ZOO, ALIGN, FLOW, ALIGNMENT, SAMPLERS, DISTILLATION, POLISH, LIKELIHOOD, CONDITION, MODEL)
}
"""Name → measurement."""
