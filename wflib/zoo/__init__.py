"""Zoos: training many networks at once, aligning them, reading and writing them with where they come from."""

from wflib.zoo.alignment import Aligner, align_zoo
from wflib.zoo.checks import require_same_architecture
from wflib.zoo.initial import INITS, initial_moments, initialize
from wflib.zoo.learned import learned_zoo, zoo_of_flow
from wflib.zoo.minibatches import minibatches
from wflib.zoo.networks import network_for
from wflib.zoo.own import zoo_from_networks
from wflib.zoo.posterior import Chains, Posterior, hamiltonian_chains, stochastic_gradient_chains
from wflib.zoo.sources import FORMATS, WRITERS, Collection, Inspection, inspect, read, read_settings, write
from wflib.zoo.steps import full_batch_steps
from wflib.zoo.training import train_networks, train_zoo
from wflib.zoo.zoo import Zoo, canonical_zoo, load_zoo, save_zoo

__all__ = [
    "FORMATS",
    "INITS",
    "WRITERS",
    "Aligner",
    "Chains",
    "Collection",
    "Inspection",
    "Posterior",
    "Zoo",
    "align_zoo",
    "canonical_zoo",
    "full_batch_steps",
    "hamiltonian_chains",
    "initial_moments",
    "initialize",
    "inspect",
    "learned_zoo",
    "load_zoo",
    "minibatches",
    "network_for",
    "read",
    "read_settings",
    "require_same_architecture",
    "save_zoo",
    "stochastic_gradient_chains",
    "train_networks",
    "train_zoo",
    "write",
    "zoo_from_networks",
    "zoo_of_flow",
]
