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

A few names lie here, too, and load their package when they are first asked for: ``load_flow``, ``draw``, ``Networks``,
``Architecture``, ``align``, ``canonicalize``, ``barrier``, ``symmetries``.
"""

from importlib import import_module
from typing import Any

__all__ = ["Architecture", "Networks", "align", "barrier", "canonicalize", "draw", "load_flow", "symmetries"]  # noqa: F822 - by __getattr__

HOMES = {
    "Architecture": ("wflib.architecture", "Architecture"),
    "Networks": ("wflib.networks", "Networks"),
    "align": ("wflib.shortcuts", "align"),
    "barrier": ("wflib.shortcuts", "barrier"),
    "canonicalize": ("wflib.symmetry", "canonicalize"),
    "draw": ("wflib.flow", "draw_networks"),
    "load_flow": ("wflib.flow", "load_flow"),
    "symmetries": ("wflib.symmetry", "symmetries"),
}
"""Where a name of this package lives; imported when it is first asked for, so that stages load only what they use."""


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'wflib' has no attribute {name!r}; it has {', '.join(__all__)} and its packages.")
    module, attribute = HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
