"""Flows over networks: paths and geometries, couplings, training, sampling, guidance."""

from wflib.flow.coordinates import Coordinates, input_basis
from wflib.flow.flow import Flow, flow_for_zoo, load_flow, save_flow
from wflib.flow.geometry import Geometry, build_geometry
from wflib.flow.guidance import TaskGuidance
from wflib.flow.pairs import PairSource
from wflib.flow.sampling import integrate, sample
from wflib.flow.training import HISTORY_SCHEMA, FlowTrainer

__all__ = [
    "HISTORY_SCHEMA",
    "Coordinates",
    "Flow",
    "FlowTrainer",
    "Geometry",
    "PairSource",
    "TaskGuidance",
    "build_geometry",
    "flow_for_zoo",
    "input_basis",
    "integrate",
    "load_flow",
    "sample",
    "save_flow",
]
