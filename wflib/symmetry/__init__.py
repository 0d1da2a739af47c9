"""Symmetries of networks: permutations and scalings of hidden neurons, alignment, canonical forms."""

from wflib.symmetry.canonical import CanonicalNetworks, canonicalize, decanonicalize
from wflib.symmetry.matching import squared_distance, weight_matching
from wflib.symmetry.permutation import Permutations, compose, identity, inverse, permute, random_permutations
from wflib.symmetry.scaling import Scales, random_scales, scale

__all__ = [
    "CanonicalNetworks",
    "Permutations",
    "Scales",
    "canonicalize",
    "compose",
    "decanonicalize",
    "identity",
    "inverse",
    "permute",
    "random_permutations",
    "random_scales",
    "scale",
    "squared_distance",
    "weight_matching",
]
