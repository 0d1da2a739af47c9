"""The geometry of canonical weights, as geoopt manifolds over whole batches."""

from wflib.manifold.sphere import StableSphere
from wflib.manifold.weights import Factor, WeightManifold, flat_manifold, require_connected, weight_manifold

__all__ = ["Factor", "StableSphere", "WeightManifold", "flat_manifold", "require_connected", "weight_manifold"]
