"""From what operations tie together to groups of neurons, axes of tensors and classes of scalings."""

from wflib.architecture.derive.axes import Axis, Block
from wflib.architecture.derive.derivation import Derivation, derive
from wflib.architecture.derive.groups import NeuronGroup
from wflib.architecture.derive.ledger import Ledger
from wflib.architecture.derive.places import NeuronPlaces, neuron_places
from wflib.architecture.derive.scalings import Factor, Scaling
from wflib.architecture.derive.wires import Wires

__all__ = [
    "Axis",
    "Block",
    "Derivation",
    "Factor",
    "Ledger",
    "NeuronGroup",
    "NeuronPlaces",
    "Scaling",
    "Wires",
    "derive",
    "neuron_places",
]
