"""Collections larger than memory: peak memory and time of reading, aligning and learning them; two processes against one.

python -m benchmarks.larger_than_memory reports/benchmarks/larger_than_memory.md

Writes made-up networks in two published formats, some 25 GB at most at a time, into a folder that is removed afterwards:
G.pt's (784-10-10 perceptrons, 200 checkpoints a run) and the Small CNN Zoo's (nine checkpoints a run). Every stage runs in
a process of its own with one thread; its peak is what the kernel says of that process when it has ended. Seconds are those
that the stage says it worked, without the start of Python.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import lmdb
import numpy as np
import torch
import typer

from wflib.storage import atomic_path

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINTS, RUNS_TOGETHER = 200, 50
SIZES = (7840, 10, 100, 10)
STEPS = (0, 1, 2, 3, 20, 40, 60, 80, 86)
LAYERS = {"conv2d": (3, 3, 1, 16), "conv2d_1": (3, 3, 16, 16), "conv2d_2": (3, 3, 16, 16), "dense": (16, 10)}
ITERATIONS = 100
FEW = 10_000
TRAINED = (16_000, 20)
"""Networks and epochs."""


def write_gpt(folder: Path, networks: int) -> None:
    """Runs that drift from a start of their own, many in one database."""
    random, architecture = np.random.default_rng(0), np.array(SIZES, "<f4").tobytes()
    runs = networks // CHECKPOINTS
    for first in range(0, runs, RUNS_TOGETHER):
        names = [f"{run:06d}" for run in range(first, min(first + RUNS_TOGETHER, runs))]
        home = folder / f"{names[0]}_{names[-1]}"
        home.mkdir(parents=True)
        with lmdb.open(str(home), map_size=2**32, sync=False) as database:
            for name in names:
                start, way = random.standard_normal((2, sum(SIZES)), dtype="f4") * 0.1
                with database.begin(write=True) as transaction:
                    for place in range(CHECKPOINTS):
                        key = f"{name}/ep{place // 10:03d}_it{place % 10:05d}.pt"
                        noise = random.standard_normal(sum(SIZES), dtype="f4") * 0.01
                        transaction.put(key.encode(), (start + way * (place / CHECKPOINTS) + noise).astype("<f4").tobytes())
                        transaction.put(f"{key}_arch".encode(), architecture)


def write_cnns(folder: Path, networks: int) -> None:
    """Rows of numbers, nine a run."""
    folder.mkdir(parents=True)
    random, columns = np.random.default_rng(0), sum(int(np.prod(shape)) + shape[-1] for shape in LAYERS.values())
    header = {"descr": "<f4", "fortran_order": False, "shape": (networks, columns)}
    with (folder / "weights.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, networks, 9000):
            file.write((random.standard_normal((min(9000, networks - start), columns), dtype="f4") * 0.1).tobytes())
    lines, begin = ["varname,start_idx,end_idx,shape"], 0
    for name, shape in LAYERS.items():
        for part, size in (("bias:0", shape[-1:]), ("kernel:0", shape)):
            end = begin + int(np.prod(size))
            lines.append(f'sequential/{name}/{part},{begin},{end},"{size}"')
            begin = end
    (folder / "layout.csv").write_text("\n".join(lines) + "\n")
    rows = (f"{STEPS[row % 9]},relu,/models/{row // 9}" for row in range(networks))
    (folder / "metrics.csv").write_text("\n".join(["step,config.activation,modeldir", *rows]) + "\n")


class Row(NamedTuple):
    """What one stage took of one collection; sizes in GB."""

    collection: str
    networks: int
    size: float
    what: str
    seconds: float
    peak: float


def run(stage: str, project: Path, *arguments: str) -> tuple[float, float]:
    """The seconds that a stage says it worked, and its peak memory in GB."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"stages.{stage}", *arguments]
    with (project / "log").open("w+") as log:
        process = subprocess.Popen(command, cwd=project, env=environment, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        if process.returncode:
            raise ValueError(f"{stage}: {log.read()[-2000:]}")
    found = json.loads((project / f"reports/stages/{stage.replace('_', '-')}.json").read_text())
    sys.stdout.write(f"{project.name} {stage}: {found['seconds']:.0f} s, {usage.ru_maxrss / 2**20:.2f} GB\n")
    sys.stdout.flush()
    return found["seconds"], usage.ru_maxrss / 2**20


def new_project(folder: Path, task: str, **sections: dict[str, object]) -> Path:
    """A project of a task with settings of its own."""
    folder.mkdir(parents=True)
    shutil.copytree(ROOT / "stages/presets", folder / "stages/presets")
    (folder / "params.yaml").write_text(json.dumps({"task": task, **sections}))
    run("fetch_data", folder)
    return folder


def learn(project: Path, source: Path, networks: int, flow: bool) -> Iterator[Row]:
    """A collection read, aligned and learned from; files go when they are no longer needed."""
    size = sum(file.stat().st_size for file in source.rglob("*") if file.is_file()) / 1e9
    yield Row(project.name, networks, size, "read", *run("train_zoo", project, "--source", str(source)))
    shutil.rmtree(source)
    yield Row(project.name, networks, size, "aligned", *run("align", project))
    trained = project / "data/zoo/trained.safetensors"
    shutil.rmtree(trained) if trained.is_dir() else trained.unlink()
    if flow:
        yield Row(project.name, networks, size, f"learned, {ITERATIONS} iterations", *run("train_flow", project))
    shutil.rmtree(project / "data/zoo")


def processes(rounds: int) -> str:
    """A zoo trained by one process and by two, in turn."""
    best: dict[int, dict[str, float]] = {}
    for _ in range(rounds):
        for count in (1, 2):
            launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if count > 1 else []
            command = [sys.executable, *launcher, "-m", "benchmarks.shared_training", *map(str, TRAINED)]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout)
            best[count] = {name: min(value, best.get(count, found)[name]) for name, value in found.items()}
            sys.stdout.write(f"{count} processes: {found}\n")
            sys.stdout.flush()
    one, two = best[1], best[2]
    return (
        f"{TRAINED[0]:,} perceptrons trained for {TRAINED[1]} epochs on WDBC, one thread each, best of {rounds} in turn: "
        f"one process {one['clock']:.1f} s, two {two['clock']:.1f} s, {one['clock'] / two['clock']:.2f} times as fast. They "
        f"compute {one['computing']:.1f} s and {two['computing']:.1f} s each, so that on cores of their own two are "
        f"{one['computing'] / two['computing']:.2f} times as fast."
    )


def main(
    out: Annotated[Path, typer.Argument(help="Markdown file to write.")],
    networks: Annotated[int, typer.Option(help="Networks of the G.pt-like collection.")] = 200_000,
    cnns: Annotated[int, typer.Option(help="Networks of the one like the Small CNN Zoo.")] = 270_000,
    rounds: Annotated[int, typer.Option(help="How often one and two processes train a zoo.")] = 3,
    folder: Annotated[Path | None, typer.Option(help="Where files go; else the folder for temporary ones.")] = None,
    note: Annotated[str, typer.Option(help="A sentence on the machine.")] = "",
) -> None:
    """Measure, and write a page."""
    training = {"iterations": ITERATIONS, "validate_every": ITERATIONS}
    root = Path(tempfile.mkdtemp(prefix="larger-than-memory-", dir=folder))
    try:
        shared, rows = processes(rounds), []
        for count in (min(FEW, networks), networks):
            write_gpt(root / "source", count)
            project = new_project(root / str(count) / "G.pt-like", "none", training=training)
            for row in learn(project, root / "source", count, flow=count == networks):
                rows.append(row)
                write_page(out, rows, shared, note)
        write_cnns(root / "mnist", cnns)
        for row in learn(
            new_project(root / "Small-CNN-Zoo-like", "none", training=training), root / "mnist", cnns, flow=True
        ):
            rows.append(row)
            write_page(out, rows, shared, note)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def write_page(out: Path, rows: list[Row], shared: str, note: str) -> None:
    """What has been measured so far."""
    lines = [
        f"| {one.collection} | {one.networks:,} | {one.size:.1f} | {one.what} | {one.seconds:.0f} | "
        f"{1000 * one.seconds / one.networks:.2f} | {one.peak:.2f} |"
        for one in rows
    ]
    aligned = [one for one in rows if one.what == "aligned" and one.collection == rows[0].collection]
    few, many = aligned[0] if aligned else rows[0], aligned[-1] if aligned else rows[0]
    ratio = many.seconds / many.networks / (few.seconds / few.networks)
    text = [
        "# Collections larger than memory", "",
        "`python -m benchmarks.larger_than_memory reports/benchmarks/larger_than_memory.md`", "",
        "| collection | networks | GB as published | what | seconds | ms a network | peak memory, GB |",
        "|---|---|---|---|---|---|---|", *lines, "",
        f"Alignment of {many.networks:,} takes {ratio:.2f} times as long a network as of {few.networks:,}.", "",
        shared, "",
        f"torch {torch.__version__}, {os.cpu_count()} cores, one thread. {note}".strip(),
    ]  # fmt: skip
    with atomic_path(out) as temporary:
        temporary.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    typer.run(main)
