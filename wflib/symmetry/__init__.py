"""Symmetries of networks: permutations and scalings of hidden neurons, alignment, canonical forms."""

from wflib.symmetry.activation_matching import activation_matching
from wflib.symmetry.attention import (
    AttentionRecord,
    CanonicalAttention,
    Gauges,
    apply_gauge,
    canonical_attention,
    random_gauge,
    restore_attention,
)
from wflib.symmetry.canonical import NEARLY_DEAD, CanonicalNetworks, canonicalize, decanonicalize
from wflib.symmetry.distance import squared_distance, squared_norm
from wflib.symmetry.heads import HeadProduct, Side, head_products
from wflib.symmetry.matching import order_free_matching, weight_matching
from wflib.symmetry.mixing import mix
from wflib.symmetry.permutation import Permutations, compose, identity, inverse, permute, random_permutations
from wflib.symmetry.pooling import pool, pooling_index
from wflib.symmetry.report import Symmetries, symmetries
from wflib.symmetry.scaling import Scales, random_scales, scale
from wflib.symmetry.sinkhorn import Objective, sinkhorn, sinkhorn_matching

__all__ = [
    "NEARLY_DEAD",
    "AttentionRecord",
    "CanonicalAttention",
    "CanonicalNetworks",
    "Gauges",
    "HeadProduct",
    "Objective",
    "Permutations",
    "Scales",
    "Side",
    "Symmetries",
    "activation_matching",
    "apply_gauge",
    "canonical_attention",
    "canonicalize",
    "compose",
    "decanonicalize",
    "head_products",
    "identity",
    "inverse",
    "mix",
    "order_free_matching",
    "permute",
    "pool",
    "pooling_index",
    "random_gauge",
    "random_permutations",
    "random_scales",
    "restore_attention",
    "scale",
    "sinkhorn",
    "sinkhorn_matching",
    "squared_distance",
    "squared_norm",
    "symmetries",
    "weight_matching",
]
