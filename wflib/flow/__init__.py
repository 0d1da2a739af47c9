"""Flows over networks: paths and geometries, couplings, training, sampling, guidance."""

from wflib.flow.conditioning import AS_IN_ZOO, Condition, network_figures, zoo_figures
from wflib.flow.coordinates import Coordinates, input_basis
from wflib.flow.distillation import TRAJECTORIES, distill
from wflib.flow.fields import Asked, Field
from wflib.flow.files import load_flow, save_flow
from wflib.flow.flow import Flow, flow_for_zoo
from wflib.flow.geometry import Geometry, build_geometry
from wflib.flow.guidance import Guidance, TaskLoss
from wflib.flow.likelihood import divergence, draw_probes, log_likelihood, require_density
from wflib.flow.networks import (
    draw_networks,
    log_likelihood_of_coordinates,
    log_likelihood_of_networks,
    ordinary_architecture,
)
from wflib.flow.pairs import PairSource, squared_path_length
from wflib.flow.sampling import DIVERGED, integrate, sample
from wflib.flow.start import OptimizedStart, carried, optimize_start
from wflib.flow.stochastic import AddedNoise, Diffusion, diffusion_of
from wflib.flow.training import HISTORY_SCHEMA, FlowTrainer

__all__ = [
    "AS_IN_ZOO",
    "DIVERGED",
    "HISTORY_SCHEMA",
    "TRAJECTORIES",
    "AddedNoise",
    "Asked",
    "Condition",
    "Coordinates",
    "Diffusion",
    "Field",
    "Flow",
    "FlowTrainer",
    "Geometry",
    "Guidance",
    "OptimizedStart",
    "PairSource",
    "TaskLoss",
    "build_geometry",
    "carried",
    "diffusion_of",
    "distill",
    "divergence",
    "draw_networks",
    "draw_probes",
    "flow_for_zoo",
    "input_basis",
    "integrate",
    "load_flow",
    "log_likelihood",
    "log_likelihood_of_coordinates",
    "log_likelihood_of_networks",
    "network_figures",
    "optimize_start",
    "ordinary_architecture",
    "require_density",
    "sample",
    "save_flow",
    "squared_path_length",
    "zoo_figures",
]
