"""Zoos: training many networks at once, aligning them, reading and writing them with where they come from."""

from wflib.zoo.alignment import Aligner, Alignment, align_zoo, find_alignment
from wflib.zoo.base import AnyZoo, fits_memory
from wflib.zoo.checks import require_same_architecture, require_training_examples
from wflib.zoo.files import save_zoo
from wflib.zoo.initial import INITS, initial_moments, initialize
from wflib.zoo.learned import learned_zoo, zoo_of_flow
from wflib.zoo.minibatches import minibatches
from wflib.zoo.networks import network_for
from wflib.zoo.own import zoo_from_networks
from wflib.zoo.posterior import Chains, Posterior, hamiltonian_chains, stochastic_gradient_chains
from wflib.zoo.sources import (
    FORMATS,
    WRITERS,
    Collection,
    Imported,
    Inspection,
    inspect,
    read,
    read_into,
    read_settings,
    write,
)
from wflib.zoo.steps import adam_steps
from wflib.zoo.stored import StoredZoo, load_zoo, open_zoo
from wflib.zoo.stored_networks import StoredNetworks, in_parts
from wflib.zoo.training import TRAINED_HERE, train_networks, train_zoo
from wflib.zoo.writer import ZooWriter, require_replaceable
from wflib.zoo.zoo import COUNTS, Zoo, canonical_zoo

__all__ = [
    "COUNTS",
    "FORMATS",
    "INITS",
    "TRAINED_HERE",
    "WRITERS",
    "Aligner",
    "Alignment",
    "AnyZoo",
    "Chains",
    "Collection",
    "Imported",
    "Inspection",
    "Posterior",
    "StoredNetworks",
    "StoredZoo",
    "Zoo",
    "ZooWriter",
    "adam_steps",
    "align_zoo",
    "canonical_zoo",
    "find_alignment",
    "fits_memory",
    "hamiltonian_chains",
    "in_parts",
    "initial_moments",
    "initialize",
    "inspect",
    "learned_zoo",
    "load_zoo",
    "minibatches",
    "network_for",
    "open_zoo",
    "read",
    "read_into",
    "read_settings",
    "require_replaceable",
    "require_same_architecture",
    "require_training_examples",
    "save_zoo",
    "stochastic_gradient_chains",
    "train_networks",
    "train_zoo",
    "write",
    "zoo_from_networks",
    "zoo_of_flow",
]
