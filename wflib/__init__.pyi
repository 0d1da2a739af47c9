# What editors and type checkers see of the names that __init__.py loads when they are first asked for.
from wflib.architecture import Architecture as Architecture
from wflib.flow import draw_networks as draw
from wflib.flow import load_flow as load_flow
from wflib.networks import Networks as Networks
from wflib.shortcuts import align as align
from wflib.shortcuts import barrier as barrier
from wflib.symmetry import canonicalize as canonicalize
from wflib.symmetry import symmetries as symmetries

HOMES: dict[str, tuple[str, str]]
