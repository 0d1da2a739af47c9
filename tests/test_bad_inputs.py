"""Bad inputs by the table: a sentence comes (ValueError; a stage exits with 1), or the right result, no other exception.

Every stage with every file of its missing, damaged or of another kind; public functions with wrong dtypes, NaN, shapes.
"""

from __future__ import annotations

import copy
import importlib
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
import typer
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

from tests.stages.test_pipeline_end_to_end import write_preset
from wflib.architecture import mlp
from wflib.config import TRACEBACK, clear_errors, load_settings
from wflib.evaluation import barrier_table, evaluate_networks, loss_barriers, sampling_quality, variance_ratio
from wflib.flow import (
    AddedNoise,
    Coordinates,
    Flow,
    FlowTrainer,
    Guidance,
    TaskLoss,
    diffusion_of,
    distill,
    draw_networks,
    draw_probes,
    flow_for_zoo,
    integrate,
    load_flow,
    log_likelihood,
    log_likelihood_of_coordinates,
    log_likelihood_of_networks,
    sample,
    save_flow,
)
from wflib.flow.conditioning import Condition
from wflib.flow.coupling import optimal_assignment
from wflib.models import METHODS
from wflib.networks import Networks, network_losses
from wflib.rng import generator
from wflib.symmetry import activation_matching, canonicalize, weight_matching
from wflib.tasks import Dataset, Split, load_dataset, save_dataset
from wflib.testing import assert_same_function
from wflib.zoo import Zoo, align_zoo, canonical_zoo, load_zoo, save_zoo, train_zoo, zoo_from_networks

ROOT = Path(__file__).resolve().parents[1]
ARCHITECTURE = mlp([5, 4, 3, 2])
NETWORKS = 12
CHANGES = [
    *("align.restarts=1", "flow.geometry=euclidean", "flow.coupling=independent", "training.iterations=2"),
    *("velocity.dimension=8", "velocity.edge_dimension=4", "velocity.layers=1", "velocity.heads=2", "training.batch_size=4"),
    "velocity.gradient_examples=0",
    *("training.compile=false", "zoo.networks=4", "zoo.epochs=2", "zoo.skip_epochs=1", "zoo.snapshot_every=1"),
    *("sample.networks=4", "sample.steps=2", "training.precision=float32"),
]
SETTINGS = load_settings(ROOT / "params.yaml", ROOT / "stages/presets", CHANGES)


def toy_split(count: int, features: int = 5) -> Split:
    inputs = torch.randn(count, features, generator=generator(0, "toy", count))
    return Split(inputs, (inputs[:, 0] > 0).long())


DATASET = Dataset("wdbc", "classification", 2, toy_split(40), toy_split(20), toy_split(20))


def own_zoo(networks: int = NETWORKS) -> Zoo:
    """Random networks with initial weights, the last two trajectories held out."""
    flat = 0.5 * torch.randn(2, networks, ARCHITECTURE.dimension, generator=generator(0, "own"))
    initial, weights = (Networks.from_flat(ARCHITECTURE, part) for part in flat)
    held_out = torch.arange(networks) >= networks - 2
    return zoo_from_networks(weights, held_out=held_out, initial=initial, init_std=0.5)


ZOO = own_zoo()
ALIGNED = align_zoo(ZOO, SETTINGS.align, DATASET)
CANONICAL = canonical_zoo(ALIGNED)
FLOW = flow_for_zoo(SETTINGS, ALIGNED, DATASET.train)


def spoiled(networks: Networks, value: float = math.nan) -> Networks:
    """The same networks, one of them broken, as computed ones may be."""
    broken = networks.map(torch.clone)
    broken.weights["linear2.weight"][1, 0, 0] = value
    return broken


# -- stages ---------------------------------------------------------------------------------------------------------

FILES = {
    "data": "dataset.safetensors",
    "zoo": "trained.safetensors",
    "trained": "trained.safetensors",
    "aligned": "aligned.safetensors",
    "canonical": "canonical.safetensors",
    "flow": "flow.safetensors",
    "samples": "samples.safetensors",
}
STAGES: dict[str, tuple[list[str], list[str]]] = {
    "train_zoo": ([], ["data"]),
    "align": ([], ["data", "zoo"]),
    "canonicalize": ([], ["data", "zoo"]),
    "train_flow": ([], ["data", "aligned"]),
    "sample": ([], ["data", "flow"]),
    "evaluate": ([], ["data", "trained", "aligned", "flow", "samples"]),
}
"""Module of a stage → arguments, and the options that name files it reads."""
CELLS: dict[str, tuple[list[str], list[str]]] = {
    "alignment": ([], ["data", "trained"]),
    "condition": ([], ["flow"]),  # one without condition is refused before anything else is read
    "distillation": (["--iterations", "1"], ["data", "aligned", "flow"]),
    "flow": ([], ["data", "aligned"]),
    "likelihood": (["--networks", "2", "--steps", "1"], ["aligned", "flow"]),
    "polish": (["--networks", "2", "--steps", "1"], ["data", "aligned", "flow"]),
    "samplers": (["--networks", "2"], ["data", "aligned", "flow"]),
}
"""Measurement → arguments, and the options that name files it reads."""
HALF_IS_FINE = {"zoo", "trained", "aligned", "samples", "canonical", "data"}


def missing(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def another_kind(path: Path) -> None:
    other = "flow.safetensors" if path.name != "flow.safetensors" else "trained.safetensors"
    path.write_bytes((path.parent / other).read_bytes())


def no_header(path: Path) -> None:
    save_file({"a": torch.zeros(2)}, path)


def edited(path: Path, change: Callable[[dict, dict], None]) -> None:
    """Tensors and header of a file changed behind the library's back."""
    with safe_open(path, framework="pt") as file:
        header, names = json.loads(file.metadata()["wflib"]), list(file.keys())
        tensors = {name: file.get_tensor(name) for name in names}
    change(tensors, header)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {"wflib": json.dumps(header)})


def floats(tensors: dict) -> list[str]:
    return [name for name, tensor in tensors.items() if tensor.is_floating_point()]


def not_a_number(path: Path) -> None:
    edited(path, lambda tensors, header: tensors[floats(tensors)[0]].view(-1)[:1].fill_(math.nan))


def another_shape(path: Path) -> None:
    def change(tensors: dict, header: dict) -> None:
        name = max(floats(tensors), key=lambda name: tensors[name].numel())
        tensors[name] = tensors[name][..., :-1].clone()

    edited(path, change)


def a_tensor_less(path: Path) -> None:
    edited(path, lambda tensors, header: tensors.pop(max(floats(tensors), key=lambda name: tensors[name].numel())))


def no_rows(path: Path) -> None:
    def change(tensors: dict, header: dict) -> None:
        tensors.update({name: tensor[:0] for name, tensor in tensors.items() if tensor.ndim})

    edited(path, change)


def integers(path: Path) -> None:
    edited(path, lambda tensors, header: tensors.update({name: tensors[name].long() for name in floats(tensors)}))


def half(path: Path) -> None:
    edited(path, lambda tensors, header: tensors.update({name: tensors[name].half() for name in floats(tensors)}))


DAMAGES = (
    *(missing, empty, truncated, a_folder, another_kind, no_header, not_a_number, another_shape, a_tensor_less, no_rows),
    integers,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """A good file of every kind."""
    folder = tmp_path_factory.mktemp("files")
    save_dataset(folder / "dataset.safetensors", DATASET)
    for name, zoo in (("trained", ZOO), ("aligned", ALIGNED), ("canonical", CANONICAL)):
        save_zoo(folder / f"{name}.safetensors", zoo)
    save_flow(folder / "flow.safetensors", FLOW)
    drawn = ALIGNED[:4]
    save_zoo(folder / "samples.safetensors", Zoo(drawn.networks, *labels(4), "sampled"))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def labels(count: int) -> tuple:
    return torch.arange(count), torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.bool)


@pytest.fixture
def project(files, tmp_path, monkeypatch) -> Path:
    """A folder with settings and good files, the working directory."""
    sections: dict[str, dict] = {}
    for change in CHANGES:
        name, value = change.split("=")
        section, key = name.split(".")
        sections.setdefault(section, {})[key] = json.loads(value) if value[0].isdigit() or value == "false" else value
    sections["evaluate"] = {"zoo_networks": 4, "barrier_networks": 2, "steps": [1], "guidance": [0.0], "curve_networks": 2}
    write_preset(tmp_path, *sections.items())
    (tmp_path / "params.yaml").write_text("task: wdbc\n")
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(stage: str, *further: str):
    (arguments, options), module = (STAGES | CELLS)[stage], f"stages.{'cell' if stage in CELLS else stage}"
    if stage in CELLS:
        arguments = [stage, "out/a", *arguments]
    named = {
        option: FILES[option] if stage != "canonicalize" else FILES[option].replace("trained", "aligned")
        for option in options
    }
    words = [word for option, name in named.items() for word in (f"--{option}", name)]
    return CliRunner().invoke(importlib.import_module(module).app, [*arguments, *words, *further]), named


def assert_sentence(result, stage: str, *words: str) -> None:
    """Exit code 1, one sentence that names the stage, and no exception that nobody foresaw."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 1, result.output
    who = f"cell {stage}" if stage in CELLS else stage.replace("_", "-")
    said = [line for line in result.output.splitlines() if line.startswith(f"{who}: ")]
    assert len(said) == 1, result.output
    assert "stopped by" not in said[0], said[0]
    assert "Traceback" not in result.output
    for word in words:
        assert word in said[0], said[0]


@pytest.mark.parametrize(
    ("stage", "option"), [(stage, option) for stage, (_, options) in (STAGES | CELLS).items() for option in options]
)
def test_a_stage_names_the_bad_file(project, files, stage, option):
    name = FILES[option] if stage != "canonicalize" else FILES[option].replace("trained", "aligned")
    for damage in DAMAGES:
        for other, content in files.items():
            if (project / other).is_dir():
                (project / other).rmdir()
            (project / other).write_bytes(content)
        damage(project / name)
        result, _ = invoke(stage)
        assert_sentence(result, stage, name)


@pytest.mark.parametrize("stage", ["align", "canonicalize", "train_flow", "sample", "evaluate", "train_zoo"])
def test_good_files_and_half_precision_go_through(project, stage):
    result, named = invoke(stage)
    assert result.exit_code == 0, f"{result.output} {result.exception!r}"
    for option in HALF_IS_FINE & set(named):
        half(project / named[option])
    result, _ = invoke(stage)
    assert result.exit_code == 0, f"{result.output} {result.exception!r}"


def test_artifacts_of_another_norm_are_refused(project):
    save_flow("flow.safetensors", CANONICAL_FLOW)
    Path("params.yaml").write_text(
        f"{Path('params.yaml').read_text()}flow: {{geometry: {CANONICAL_FLOW.config.geometry}}}\n"
    )
    save_zoo("samples.safetensors", replace(canonical_zoo(ALIGNED), form="sampled"))
    for norm in ("weights-and-bias", "weights"):
        save_zoo("canonical.safetensors", canonical_zoo(ALIGNED, norm))
        result, _ = invoke("evaluate", "--canonical", "canonical.safetensors")
        if norm == "weights":
            assert_sentence(result, "evaluate", "canonical.safetensors: expected the norm of flow.safetensors", "dvc repro")
        else:
            assert result.exit_code == 0, f"{result.output} {result.exception!r}"


@pytest.mark.parametrize("stage", ["align", "train_flow", "sample", "evaluate", "canonicalize"])
def test_data_of_another_task_are_refused(project, stage):
    save_dataset("dataset.safetensors", replace(DATASET, **dict.fromkeys(("train", "validation", "test"), toy_split(20, 7))))
    assert_sentence(invoke(stage)[0], stage, "7")


@pytest.mark.parametrize("text", ["", "task: [", "task: other\n", "- 1\n", "task: wdbc\nzoo:\n  networks: many\n", "\x00"])
@pytest.mark.parametrize("stage", ["train_zoo", "align", "train_flow", "sample", "evaluate"])
def test_bad_settings_are_refused(project, stage, text):
    (project / "params.yaml").write_text(text)
    result, _ = invoke(stage)
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 1
    assert "params.yaml" in result.output
    assert "stopped by" not in result.output


@pytest.mark.parametrize("content", ["", "nonsense", "a,b\n1,2\n"])
def test_cells_of_other_columns_are_refused(project, content):
    (project / "cells").mkdir()
    (project / "cells/cell.json").write_text('{"measurement": "flow"}')
    (project / "cells/rows.csv").write_text(content)
    app = importlib.import_module("stages.page").app
    assert_sentence(CliRunner().invoke(app, ["flows", "cells", "out/a"]), "page flows")
    assert_sentence(CliRunner().invoke(app, ["flows", "nowhere", "out/a"]), "page flows", "nowhere")
    (project / "cells/cell.json").write_text("{}")
    assert_sentence(CliRunner().invoke(app, ["flows", "cells", "out/a"]), "page flows", "cells/cell.json")


def test_what_nobody_foresaw_is_a_sentence_too_and_can_be_looked_at(monkeypatch, capsys):
    faults = [KeyError("x"), RuntimeError("expected Half"), torch.OutOfMemoryError("2 GiB"), MemoryError(), AssertionError()]
    for fault in faults:
        with pytest.raises(typer.Exit) as caught, clear_errors("stage"):
            raise fault
        assert caught.value.exit_code == 1
        said = capsys.readouterr().err
        assert said.startswith("stage: ")
        assert said.count("\n") == 1
        assert ("out of memory" in said) == isinstance(fault, (MemoryError, torch.OutOfMemoryError))
    with pytest.raises(typer.Exit) as caught, clear_errors("stage"):
        raise KeyboardInterrupt
    assert caught.value.exit_code == 130
    assert "train-zoo, align and train-flow go on" in capsys.readouterr().err
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(RuntimeError, match="expected Half"), clear_errors("stage"):
        raise faults[1]


# -- functions ------------------------------------------------------------------------------------------------------

MINE = ZOO.networks
TANH = Networks(mlp([5, 4, 3, 2], "tanh"), MINE.weights)
SPLIT = DATASET.validation


def zoo(**changes) -> Zoo:
    return replace(ZOO, **{"initial": None, **changes})


def evaluated(networks: Networks, **changes):
    given = {"split": SPLIT, "training": ALIGNED.training_part, "bins": 5, "reference": ALIGNED.reference, **changes}
    return evaluate_networks("mine", networks, generator=generator(0, "e"), **given)


class Steep:
    """A field that no step of dopri5 is short enough for."""

    geometry = FLOW.geometry

    def velocity(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return 1e4 * torch.sign(torch.sin(1e4 * x))


def trainer(changed: Zoo, *changes: str) -> FlowTrainer:
    settings = load_settings(ROOT / "params.yaml", ROOT / "stages/presets", [*CHANGES, *changes])
    return FlowTrainer(flow_for_zoo(settings, changed, DATASET.train), changed, settings.training, DATASET.train)


def diverging(flow: Flow) -> Flow:
    flow = copy.deepcopy(flow)
    flow.preconditioner.mean_1.fill_(math.inf)
    return flow


def geometric_settings():
    changes = [change for change in CHANGES if not change.startswith(("flow.geometry", "flow.coupling"))]
    changes += ["flow.geometry=geometric", "flow.coupling=independent", "velocity.gradient_examples=0"]
    return load_settings(ROOT / "params.yaml", ROOT / "stages/presets", changes)


CANONICAL_FLOW = flow_for_zoo(geometric_settings(), canonical_zoo(ALIGNED), DATASET.train)

same_start = ZOO.initial[[0] * NETWORKS]
broken = list(spoiled(MINE))

REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    # zoos
    "Zoo NaN": (lambda: zoo(networks=spoiled(MINE)), r"1 of 12 networks: 1 \(linear2.weight\)"),
    "Zoo infinity": (lambda: zoo(networks=spoiled(MINE, math.inf)), "finite_networks"),
    "Zoo half": (lambda: zoo(networks=MINE.to(torch.float16)), r"torch.float16; convert with .to\(torch.float32\)"),
    "Zoo bfloat16": (lambda: zoo(networks=MINE.to(torch.bfloat16)), "torch.bfloat16; convert with"),
    "Zoo integers": (lambda: zoo(networks=MINE.to(torch.int64)), "torch.int64; convert with"),
    "Zoo of a dict": (lambda: zoo(networks=MINE.weights), "networks expected Networks, got dict"),
    "Zoo held_out integers": (lambda: zoo(held_out=ZOO.held_out.long()), r"convert it with .to\(torch.bool\)"),
    "Zoo held_out list": (lambda: zoo(held_out=[True] * 12), "expected a tensor .* got list"),
    "Zoo negative step": (lambda: zoo(step=ZOO.step - 1), "at least 0, got -1"),
    "Zoo negative trajectory": (lambda: zoo(trajectory=ZOO.trajectory - 1), "at least 0, got -1"),
    "Zoo initial NaN": (lambda: replace(ZOO, initial=spoiled(ZOO.initial)), "initial: expected finite"),
    "Zoo initial half": (
        lambda: replace(ZOO, initial=ZOO.initial.to(torch.half)),
        "initial: expected torch.float32",
    ),
    "Zoo no permutations": (
        lambda: zoo(permutations={"hidden1": torch.zeros(12, 4, dtype=torch.int64)}),
        "each neuron 0 … 3 once",
    ),
    **{
        f"Zoo init_std {value}": (lambda value=value: zoo(metadata={"init_std": value}), "positive, finite deviation")
        for value in (0, -1.0, math.nan, math.inf, "0.3", True, [0.3])
    },
    "Zoo reserved metadata": (lambda: zoo(metadata={"form": "aligned"}), "reserved"),
    "save_zoo empty": (lambda: save_zoo("nowhere/zoo.safetensors", ZOO[:0]), "at least one network"),
    "save_zoo twice": (
        lambda: save_zoo("nowhere/zoo.safetensors", ZOO[torch.tensor([3, 3])]),
        "2 of trajectory 3 at step 0",
    ),
    "save_zoo metadata": (lambda: save_zoo("nowhere/z.safetensors", zoo(metadata={"a": object()})), "JSON"),
    "load_zoo nowhere": (lambda: load_zoo("nowhere.safetensors", "trained"), "found no file"),
    "load_dataset nowhere": (lambda: load_dataset("nowhere.safetensors"), "found no file"),
    "load_flow nowhere": (lambda: load_flow("nowhere.safetensors"), "found no file"),
    "zoo_from_networks one": (lambda: zoo_from_networks(MINE[:1]), "at least two trajectories"),
    "zoo_from_networks one run": (
        lambda: zoo_from_networks(MINE, torch.zeros(12, dtype=torch.int64)),
        "leave trajectory out",
    ),
    "zoo_from_networks short": (lambda: zoo_from_networks(MINE, torch.arange(5)), r"trajectory expected \(12,\) integers"),
    "zoo_from_networks floats": (lambda: zoo_from_networks(MINE, torch.rand(12)), "integers"),
    "Networks NaN": (lambda: Networks(ARCHITECTURE, spoiled(MINE).weights), "in 1 of 12 networks: 1"),
    "zoo_from_networks share": (lambda: zoo_from_networks(MINE, held_out=1.5), "between 0 and 1"),
    "zoo_from_networks none": (lambda: zoo_from_networks(MINE, held_out=torch.zeros(12).bool()), "found none of 12"),
    "zoo_from_networks all": (lambda: zoo_from_networks(MINE, held_out=torch.ones(12).bool()), "found all of 12"),
    "align_zoo all held out": (lambda: align_zoo(zoo(held_out=torch.ones(12).bool()), SETTINGS.align, DATASET), "held_out"),
    "align_zoo empty": (lambda: align_zoo(ZOO[:0], SETTINGS.align, DATASET), "not held out"),
    "initial_of": (lambda: zoo().initial_of(torch.tensor([0])), "independent or ot"),
    "train_zoo": (
        lambda: train_zoo(ARCHITECTURE, DATASET, SETTINGS.zoo.model_copy(update={"learning_rate": 1e30})),
        "zoo.learning_rate",
    ),
    "train_zoo NaN": (
        lambda: train_zoo(ARCHITECTURE, replace(DATASET, train=Split(SPLIT.inputs / 0, SPLIT.targets)), SETTINGS.zoo),
        "train_zoo: train inputs expected finite numbers, found 100 NaN or infinite ones",
    ),
    "train_zoo labels from one": (
        lambda: train_zoo(ARCHITECTURE, replace(DATASET, train=Split(SPLIT.inputs, SPLIT.targets + 1)), SETTINGS.zoo),
        r"train_zoo: train targets expected class indices 0 … 1 .*targets - targets.min\(\)",
    ),
    # flows
    "FlowTrainer nothing held out": (lambda: trainer(zoo(held_out=torch.zeros(12).bool())), "none of 12 networks held out"),
    "FlowTrainer all held out": (lambda: trainer(zoo(held_out=torch.ones(12).bool())), "all of 12 networks held out"),
    "FlowTrainer empty": (lambda: FlowTrainer(FLOW, ZOO[:0], SETTINGS.training, DATASET.train), "found none"),
    "initialization unknown": (lambda: trainer(zoo(), "flow.coupling=initialization"), "independent or ot"),
    "initialization shared": (
        lambda: trainer(replace(ZOO, initial=same_start), "flow.coupling=initialization"),
        "linear1.weight deviates by 0 between networks.*flow.coupling: independent",
    ),
    "initialization of one run": (
        lambda: trainer(replace(ZOO, trajectory=(ZOO.held_out).long()), "flow.coupling=initialization"),
        "of one trajectory",
    ),
    "Flow std": (lambda: Flow(SETTINGS.flow, SETTINGS.velocity, Coordinates(ARCHITECTURE), math.nan), "positive number"),
    "all weights zero": (
        lambda: flow_for_zoo(SETTINGS, zoo(networks=MINE.map(torch.zeros_like), metadata={}), DATASET.train),
        "other than zero",
    ),
    "optimal_assignment NaN": (
        lambda: optimal_assignment(FLOW.geometry, ZOO.networks.flat, spoiled(MINE).flat),
        "12 of 144 NaN or infinite",
    ),
    "optimal_assignment sizes": (
        lambda: optimal_assignment(FLOW.geometry, ZOO.networks.flat, ZOO.networks.flat[:3]),
        "as many x_0",
    ),
    "dopri5 steep": (lambda: integrate(Steep(), ZOO.networks.flat, 1, solver="dopri5"), "dopri5 (took 1000|found no step)"),
    "dopri5 NaN": (
        lambda: integrate(FLOW, ZOO.networks.flat, 1, lambda x, t: x * math.nan, "dopri5"),
        "dopri5 found no step",
    ),
    "integrate no steps": (lambda: integrate(FLOW, ZOO.networks.flat, 0), "at least 1"),
    "sample nothing": (lambda: sample(FLOW, 0, 2, generator(0, "s")), "at least one network"),
    "draw_networks diverged": (
        lambda: draw_networks(FLOW, 3, steps=2, guidance=lambda x, t: x * math.inf),
        "draw_networks: expected finite.*3 of 3.*guidance",
    ),
    "Guidance schedule": (lambda: Guidance(FLOW, lambda networks: None, 1.0, "odd"), "schedule must be"),
    "diffusion strength": (lambda: diffusion_of(FLOW, -1.0, generator(0, "d")), "at least 0"),
    "noise and dopri5": (
        lambda: integrate(FLOW, ZOO.networks.flat, 1, solver="dopri5", stochastic=AddedNoise(0.1, generator(0, "n"))),
        "another solver",
    ),
    "probes": (lambda: draw_probes(ZOO.networks.flat, 0, generator(0, "p")), "at least one"),
    "log_likelihood NaN": (
        lambda: log_likelihood(FLOW, FLOW.prior, spoiled(MINE).flat, steps=1),
        "networks: 1 ",
    ),
    "log_likelihood_of_networks NaN": (
        lambda: log_likelihood_of_networks(FLOW, broken, steps=1),
        "networks: 1",
    ),
    "log_likelihood_of_networks none": (lambda: log_likelihood_of_networks(FLOW, [], steps=1), "at least one"),
    "log_likelihood_of_networks empty": (lambda: log_likelihood_of_networks(FLOW, MINE[:0], steps=1), "at least one"),
    "log_likelihood_of_coordinates shape": (
        lambda: log_likelihood_of_coordinates(FLOW, ZOO.networks.flat[:, 1:]),
        "Shape mismatch",
    ),
    "log_likelihood_of_coordinates NaN": (
        lambda: log_likelihood_of_coordinates(FLOW, spoiled(MINE).flat),
        "networks: 1 ",
    ),
    # evaluation
    "flow of another norm": (
        lambda: FlowTrainer(CANONICAL_FLOW, canonical_zoo(ALIGNED, "weights"), SETTINGS.training, DATASET.train),
        "expected the norm of the flow, weights-and-bias, found weights; .*dvc repro",
    ),
    "flow of other activations": (
        lambda: FlowTrainer(FLOW, zoo(networks=TANH), SETTINGS.training, DATASET.train),
        "expected the activations of the flow, relu, .*tanh",
    ),
    "draw_networks of exploding output scales": (
        lambda: draw_networks(CANONICAL_FLOW, 3, steps=2, guidance=lambda x, t: 1e3 + 0 * x),
        "draw_networks: weights behind .*3 of 3.*guidance",
    ),
    "log_likelihood far away": (
        lambda: log_likelihood_of_coordinates(CANONICAL_FLOW, 1e30 * torch.ones(2, CANONICAL_FLOW.architecture.dimension)),
        r"NaN for 2 of 2 points, of values up to 1e\+30",
    ),
    "condition not finite": (lambda: Condition("loss").fit(torch.tensor([1.0, math.inf])), "flow.condition: .*networks: 1 "),
    "sample chunk": (lambda: sample(FLOW, 2, 2, generator(0, "s"), chunk=0), "at least one network at a time"),
    "with_widths": (lambda: FLOW.with_widths({"hidden1": 0}), "at least one neuron"),
    "TaskLoss batch": (lambda: TaskLoss(SPLIT, 0, generator(0, "t")), "at least one example, got 0"),
    "Guidance strength": (lambda: Guidance(FLOW, lambda networks: None, math.nan), "finite number, got nan"),
    "Flow std text": (lambda: Flow(SETTINGS.flow, SETTINGS.velocity, Coordinates(ARCHITECTURE), "0.3"), "positive number"),
    "Flow std huge": (lambda: Flow(SETTINGS.flow, SETTINGS.velocity, Coordinates(ARCHITECTURE), 1e300), "positive number"),
    "distill no jumps": (lambda: distill(FLOW, 0, jumps=()), "jumps expected at least 1"),
    "distill no trajectories": (lambda: distill(FLOW, 0, trajectories=0), "trajectories expected at least 1, got 0"),
    "distill rate": (
        lambda: distill(FLOW, 0, 4, 4, (1,), 8, 4, learning_rate=1e30),
        "distill: loss is nan at iteration .*learning_rate",
    ),
    "distill of a teacher that diverges": (
        lambda: distill(diverging(FLOW), 0, 4, 4, (1,), 8, 4),
        "the teacher's draws: expected finite.*4 of 4",
    ),
    "loss_barriers NaN": (lambda: loss_barriers(spoiled(MINE), SPLIT), "networks: 1 "),
    "loss_barriers points": (lambda: loss_barriers(MINE, SPLIT, 2), "odd number"),
    "loss_barriers another task": (lambda: loss_barriers(MINE, toy_split(4, 7)), "7"),
    "barrier_table NaN": (lambda: barrier_table("x", spoiled(MINE), SPLIT), "networks: 1 "),
    "evaluate_networks NaN": (lambda: evaluated(spoiled(MINE)), "mine: expected finite.*networks: 1 "),
    "evaluate_networks none": (lambda: evaluated(MINE[:0]), "at least one network"),
    "evaluate_networks another task": (lambda: evaluated(MINE, split=toy_split(4, 7)), "7"),
    "network_losses another task": (lambda: network_losses(MINE, toy_split(4, 7)), "7"),
    "sampling_quality another task": (lambda: sampling_quality(MINE, toy_split(4, 7)), "7"),
    "variance_ratio": (lambda: variance_ratio(ZOO.networks.flat[:1], ZOO.networks.flat), "Shape mismatch"),
    **{
        f"model {name}": (lambda method=method: method.fit(ZOO[:1], None), "at least two")
        for name, method in METHODS.items()
        if method.fewest == 2
    },
    # symmetry and checkers
    "canonicalize shapes": (
        lambda: canonicalize(Networks(ARCHITECTURE, {**MINE.weights, "linear1.bias": torch.zeros(12, 9)})),
        "linear1.bias",
    ),
    "canonicalize NaN": (lambda: canonicalize(spoiled(MINE)), "networks: 1 "),
    "canonicalize half": (lambda: canonicalize(MINE.to(torch.float16)), "float32 or float64"),
    "weight_matching NaN": (
        lambda: weight_matching(ALIGNED.reference, spoiled(MINE), generator(0, "m")),
        "weight_matching: weights: .*networks: 1 ",
    ),
    "activation_matching NaN": (
        lambda: activation_matching(ALIGNED.reference, spoiled(MINE), SPLIT.inputs),
        "activation_matching: weights: .*networks: 1 ",
    ),
    "assert_same_function inputs": (
        lambda: assert_same_function(MINE, MINE, torch.zeros(3, 7)),
        "Shape mismatch",
    ),
}
"""Function and bad input → call, and what its sentence says."""


@pytest.mark.parametrize("name", REFUSED)
def test_a_function_refuses_with_a_sentence(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_same_calls_work_on_good_input(tmp_path):
    """The negative controls of the table: nothing in it is refused whatever is given."""
    assert len(zoo(networks=MINE.to(torch.float64))) == NETWORKS
    save_zoo(tmp_path / "zoo.safetensors", zoo(networks=MINE.to(torch.float64)))
    assert load_zoo(tmp_path / "zoo.safetensors", "trained").networks.dtype == torch.float32
    with pytest.warns(UserWarning, match="left out 1 of 12"):
        assert len(zoo_from_networks(Networks.finite(ARCHITECTURE, spoiled(MINE).weights))) == NETWORKS - 1
    assert torch.isfinite(integrate(FLOW, ZOO.networks.flat, 1, solver="dopri5")).all()
    assert torch.isfinite(log_likelihood_of_networks(FLOW, MINE, steps=1)).all()
    assert torch.isfinite(loss_barriers(MINE, SPLIT).excess).all()
    assert len(evaluated(MINE)[0]) == NETWORKS
    assert isinstance(evaluated(MINE)[0], pd.DataFrame)
    for coupling in ("independent", "initialization", "ot"):
        assert math.isfinite(trainer(ALIGNED, f"flow.coupling={coupling}").step())
    assert sorted(optimal_assignment(FLOW.geometry, ZOO.networks.flat, ZOO.networks.flat.flip(0)).tolist()) == list(
        range(NETWORKS)
    )
