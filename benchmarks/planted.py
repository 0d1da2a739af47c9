"""Planted permutations of large networks, found by weight matching: ``python -m benchmarks.planted`` (needs torchvision).

A model with random weights and random batch-norm statistics is permuted by a random element of its group, residual streams,
heads and their widths included, and its statistics are replaced: they are no part of the cost.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
import typer

from benchmarks.symmetries import FOLDER, build, torchvision_models
from wflib.architecture import Architecture
from wflib.networks import Networks
from wflib.rng import generator
from wflib.storage import atomic_path
from wflib.symmetry import permute, random_permutations, weight_matching

MODELS = ("resnet18", "vit_b_32")


@torch.no_grad()
def measure(name: str, restarts: int) -> dict[str, object]:
    """Plant, match, and compare every learned tensor bit by bit."""
    module, inputs, _ = build(torchvision_models(), name)
    architecture = Architecture.from_module(module, inputs)
    state = module.state_dict()
    reference = Networks(architecture, {key: state[key].float().unsqueeze(0) for key, _ in architecture.shapes})
    planted = permute(reference, random_permutations(architecture, 1, generator(0, "hide")))
    planted.weights.update({name: planted.weights[name] * 100 for name in architecture.statistics})
    start = time.perf_counter()
    found = weight_matching(reference, planted, generator(0, "match"), restarts)
    seconds = time.perf_counter() - start
    learned = set(reference.weights) - set(architecture.statistics)
    original, moved, back = (side.weights for side in (reference, planted, permute(planted, found)))
    groups = architecture.hidden_groups
    return {
        "model": name,
        "groups": len(groups),
        "nested": sum(group.parent is not None for group in groups),
        "moved tensors": sum(not torch.equal(moved[key], original[key]) for key in learned),
        "recovered tensors": f"{sum(torch.equal(back[key], original[key]) for key in learned)} of {len(learned)}",
        "seconds": f"{seconds:.1f}",
    }


def main(restarts: int = 1, out: Path = FOLDER / "planted.md") -> None:
    """Measure ResNet-18 and a ViT."""
    rows = [measure(name, restarts) for name in MODELS]
    lines = [
        "| " + " | ".join(rows[0]) + " |",
        "|" + "---|" * len(rows[0]),
        *("| " + " | ".join(map(str, row.values())) + " |" for row in rows),
    ]
    with atomic_path(out) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    typer.run(main)
