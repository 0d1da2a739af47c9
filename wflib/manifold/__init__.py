"""The geometry of canonical weights, as geoopt manifolds over whole batches."""

from wflib.manifold.sphere import StableSphere
from wflib.manifold.weights import WeightManifold, flat_manifold, sphere_blocks, weight_manifold

__all__ = ["StableSphere", "WeightManifold", "flat_manifold", "sphere_blocks", "weight_manifold"]
