"""wflib: generative models over neural-network weights.

Train a zoo of small networks, remove what their symmetries make redundant, learn by flow matching how to draw new networks,
and say honestly how good the drawn networks are. Import from the packages, which are named after the steps:

- ``wflib.architecture``: what a network is
- ``wflib.symmetry``, ``wflib.manifold``, ``wflib.graph``: permutations and scalings, geometry, neural graphs
- ``wflib.tasks``, ``wflib.zoo``: base tasks, zoos of networks that solve them
- ``wflib.velocity``, ``wflib.flow``: networks that predict, flows that draw
- ``wflib.models``: flows and what they must beat, all used alike
- ``wflib.evaluation``, ``wflib.report``: numbers, ink
- ``wflib.testing``: checkers for functions and fields of your own

``wflib.symmetries(module, example)`` says what the symmetries of any torch module are.
"""

from importlib import import_module
from typing import Any

__all__ = ["symmetries"]  # noqa: F822 - by __getattr__

HOMES = {"symmetries": "wflib.symmetry"}
"""Where a name of this package lives; imported when it is first asked for, so that stages load only what they use."""


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'wflib' has no attribute {name!r}; it has {', '.join(__all__)} and its packages.")
    return getattr(import_module(HOMES[name]), name)
