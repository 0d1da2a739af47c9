"""False alarms of the audit: how often its tests say no where nothing is wrong.

python -m benchmarks.audit_size reports/benchmarks/audit.md

Families of networks that need no training: independent networks against held-out trajectories of uneven lengths, and
training trajectories against held-out ones. A test of level 5 % may say no in 5 % of all simulations.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from scipy.stats import binomtest

from tests.evaluation.families import ARCHITECTURE, examples, runs, zoo
from wflib.evaluation import audit_networks
from wflib.networks import Networks
from wflib.rng import generator
from wflib.storage import atomic_path

LEVEL = 0.05
NETWORKS, SNAPSHOTS = 150, 4


def false_alarms(case: str, seed: int) -> dict[str, bool]:
    """Whether each test says no on one family, and whether any does after Holm's adjustment."""
    family = zoo(2 * NETWORKS, NETWORKS, SNAPSHOTS, seed, uneven=case == "independent networks")
    networks, trajectory = Networks.from_flat(ARCHITECTURE, runs(NETWORKS, seed, "drawn")), None
    training = family.training_part
    if case == "training trajectories":
        some = training[training.trajectory < NETWORKS]
        networks, trajectory = some.networks, some.trajectory
    random = generator(seed, case)
    found = audit_networks(
        case,
        networks,
        training,
        family.held_out_part,
        examples(),
        random,
        trajectory=trajectory,
        rounds=30,
        permutations=199,
    )
    return {name: p <= LEVEL for name, p in found.p_values.items()} | {"any, by Holm": bool(found.rejected(LEVEL))}


def main(
    out: Annotated[Path, typer.Argument(help="Markdown table to write.")],
    seeds: Annotated[int, typer.Option(help="Simulations of each case.")] = 250,
) -> None:
    """Simulate both cases and write shares of false alarms with exact 95 % intervals."""
    torch.set_num_threads(1)
    cases = ("independent networks", "training trajectories")
    alarms = {case: [false_alarms(case, seed) for seed in range(seeds)] for case in cases}
    lines = [f"| test | {' | '.join(cases)} |", "|---|---|---|"]
    for test in alarms[cases[0]][0]:
        cells = []
        for case in cases:
            count = sum(row[test] for row in alarms[case])
            interval = binomtest(count, seeds).proportion_ci()
            cells.append(f"{count / seeds:.1%} [{interval.low:.1%}, {interval.high:.1%}]")
        lines.append(f"| {test} | {' | '.join(cells)} |")
    text = (
        f"Share of {seeds} simulations in which a test of level {LEVEL:.0%} says no although nothing is wrong, {NETWORKS} "
        f"networks or trajectories beside {NETWORKS} held-out trajectories of up to {SNAPSHOTS} snapshots.\n\n"
    )
    with atomic_path(out) as temporary:
        temporary.write_text(text + "\n".join(lines) + "\n")


if __name__ == "__main__":
    typer.run(main)
