"""What the thesis reports (chapter 7): mean and deviation over samples, on test data."""

from __future__ import annotations

__all__ = ["DIVERSITY", "MNIST", "TRANSFER", "WDBC", "WIDTHS", "Pair"]

Pair = tuple[float, float]
"""Mean and deviation."""
NONE, ALIGNED, INDEPENDENT, OT = "none", "aligned", "independent", "ot"

WDBC: dict[tuple[str, str, str], tuple[Pair, Pair]] = {
    ("euclidean", NONE, INDEPENDENT): ((0.998, 0.006), (0.101, 0.050)),
    ("euclidean", ALIGNED, INDEPENDENT): ((0.998, 0.006), (0.070, 0.040)),
    ("euclidean", ALIGNED, OT): ((0.993, 0.010), (0.053, 0.028)),
    ("normalized", NONE, INDEPENDENT): ((0.993, 0.009), (0.027, 0.014)),
    ("normalized", ALIGNED, INDEPENDENT): ((0.989, 0.011), (0.030, 0.015)),
    ("normalized", ALIGNED, OT): ((0.988, 0.018), (0.044, 0.047)),
    ("geometric", NONE, INDEPENDENT): ((0.992, 0.011), (0.019, 0.009)),
    ("geometric", ALIGNED, INDEPENDENT): ((0.993, 0.001), (0.018, 0.001)),
    ("geometric", ALIGNED, OT): ((0.991, 0.011), (0.020, 0.012)),
    ("target", "", ""): ((0.992, 0.010), (0.048, 0.032)),
}
"""Table 7.1: geometry, alignment, coupling → accuracy, loss."""
MNIST: dict[tuple[str, str, str], tuple[Pair, Pair]] = {
    ("euclidean", ALIGNED, INDEPENDENT): ((0.737, 0.085), (0.814, 0.286)),
    ("euclidean", ALIGNED, OT): ((0.757, 0.077), (0.753, 0.245)),
    ("normalized", ALIGNED, INDEPENDENT): ((0.753, 0.074), (1.537, 0.046)),
    ("normalized", ALIGNED, OT): ((0.706, 0.078), (1.608, 0.047)),
    ("geometric", ALIGNED, INDEPENDENT): ((0.737, 0.070), (1.457, 0.040)),
    ("geometric", ALIGNED, OT): ((0.786, 0.064), (1.443, 0.046)),
    ("target", "", ""): ((0.933, 0.009), (0.231, 0.027)),
}
"""Table 7.2, likewise."""
DIVERSITY: dict[tuple[str, str, str], Pair] = {
    ("euclidean", ALIGNED, INDEPENDENT): (0.00102, 0.00114),
    ("euclidean", ALIGNED, OT): (0.00085, 0.00094),
    ("normalized", ALIGNED, INDEPENDENT): (0.00086, 0.00055),
    ("normalized", ALIGNED, OT): (0.00117, 0.00074),
    ("geometric", ALIGNED, INDEPENDENT): (0.00073, 0.00049),
    ("geometric", ALIGNED, OT): (0.00093, 0.00063),
    ("target", "", ""): (0.00002, 0.00001),
}
"""Table 7.2, third column: equation 7.2."""
TRANSFER: dict[str, tuple[Pair, Pair]] = {
    "euclidean": ((0.754, 0.082), (0.764, 0.252)),
    "normalized": ((0.724, 0.081), (1.543, 0.045)),
    "geometric": ((0.730, 0.067), (1.470, 0.043)),
    "not guided": ((0.080, 0.030), (9.601, 1.402)),
    "trained for epochs": ((0.908, 0.003), (0.334, 0.008)),
}
"""Table 7.3: flow, or what stands beside flows → accuracy, loss on Fashion-MNIST."""
WIDTHS: dict[tuple[str, bool], tuple[Pair, Pair]] = {
    ("euclidean", False): ((0.826, 0.076), (0.830, 0.281)),
    ("euclidean", True): ((0.842, 0.079), (0.796, 0.337)),
    ("geometric", False): ((0.890, 0.030), (1.030, 0.038)),
    ("geometric", True): ((0.886, 0.033), (1.031, 0.037)),
    ("normalized", False): ((0.203, 0.122), (2.652, 0.667)),
    ("normalized", True): ((0.184, 0.083), (2.776, 0.575)),
}
"""Table 7.4: geometry, whether guided → accuracy, loss of networks with 32 hidden neurons."""
