"""Settings: presets, overrides, and errors that say what was given and what is allowed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from wflib.config import ReadConfig, SettingsError, load_settings

PRESETS = Path(__file__).resolve().parents[2] / "stages" / "presets"


def settings_with(folder: Path, text: str):
    path = folder / "params.yaml"
    path.write_text(text)
    return load_settings(path, PRESETS)


def test_null_means_as_the_preset_says(tmp_path):
    preset = YAML(typ="safe").load((PRESETS / "wdbc.yaml").read_text())
    settings = settings_with(tmp_path, "task: wdbc\nflow:\n  geometry: null\nzoo: null\n")
    preset["zoo"]["read"] = ReadConfig().model_dump()  # whose settings presets leave out
    for name in ("training", "sample"):
        del preset[name]["by_coupling"]  # which is for another coupling
    assert settings.model_dump() == {"task": "wdbc", **{key: preset[key] for key in preset if key != "geometries"}}
    assert settings == settings_with(tmp_path, "task: wdbc\n")


def test_an_override_changes_one_key_only(tmp_path):
    before = settings_with(tmp_path, "task: wdbc\n").model_dump()
    after = settings_with(tmp_path, "task: wdbc\nzoo:\n  learning_rate: 2e-3\n  widths: [4]\n").model_dump()
    assert after["zoo"].pop("learning_rate") == 2e-3 != before["zoo"].pop("learning_rate")
    assert after["zoo"].pop("widths") == [4] != before["zoo"].pop("widths")
    assert after == before


def test_a_preset_may_say_otherwise_for_a_geometry_and_overrides_win(tmp_path):
    preset = (PRESETS / "wdbc.yaml").read_text().split("geometries:")[0]
    (tmp_path / "own.yaml").write_text(
        f"{preset}\ngeometries:\n"
        "  normalized: {flow: {prediction: end-point}, training: {iterations: 7, seed: null}}\n"
    )

    def settings(text: str, *changes: str):
        (tmp_path / "params.yaml").write_text(f"task: own\n{text}\n")
        return load_settings(tmp_path / "params.yaml", tmp_path, changes)

    usual = settings("")
    assert (usual.flow.prediction, usual.training.iterations) == ("velocity", load_settings().training.iterations)
    for other in (settings("flow: {geometry: normalized}"), settings("", "flow.geometry=normalized")):
        assert (other.flow.prediction, other.training.iterations, other.training.seed) == ("end-point", 7, 0)
    both = settings("flow: {geometry: normalized, prediction: velocity}", "training.iterations=8")
    assert (both.flow.prediction, both.training.iterations) == ("velocity", 8)
    assert settings("flow: {geometry: geometric}").training == usual.training


WRONG_GEOMETRIES = {
    "{round: {}}": "geometries: expected a mapping of euclidean, normalized, geometric",
    "3": "geometries: expected a mapping of euclidean",
    "{normalized: 3}": r"geometries\.normalized: expected a mapping of sections, got 3",
    "[]": r"geometries: expected a mapping of euclidean",
    "{normalized: {flo: {}}}": r"geometries\.normalized: flo: unknown section",
    "{normalized: {zoo: {seed: 1}}}": r"geometries\.normalized: zoo: unknown section; allowed: flow, velocity",
    "{normalized: {flow: {geometry: geometric}}}": r"geometries\.normalized: flow\.geometry: unknown setting",
    "{normalized: {training: {iterations: 0}}}": r"geometries\.normalized: training\.iterations: got 0",
    "{normalized: {training: {iteratoins: 7}}}": r"geometries\.normalized: training\.iteratoins: got 7; unknown setting",
    "{normalized: {flow: {prediction: velocity}, training: {distance: geodesic}}}": r"geometries\.normalized: .*set flow",
    "{normalized: {flow: 3}}": r"geometries\.normalized: flow: expected a mapping of settings",
}


@pytest.mark.parametrize(("text", "message"), WRONG_GEOMETRIES.items())
def test_wrong_geometries_of_a_preset_are_refused_by_name(tmp_path, text, message):
    preset = (PRESETS / "wdbc.yaml").read_text().split("geometries:")[0]
    (tmp_path / "own.yaml").write_text(f"{preset}\ngeometries: {text}\n")
    (tmp_path / "params.yaml").write_text("task: own\n")
    with pytest.raises(SettingsError, match=rf"own\.yaml: {message}"):
        load_settings(tmp_path / "params.yaml", tmp_path)


def test_wrong_changes_and_empty_sections_of_a_preset_are_refused(tmp_path):
    (tmp_path / "params.yaml").write_text("task: own\n")
    (tmp_path / "own.yaml").write_text((PRESETS / "wdbc.yaml").read_text())
    for change in ("flow", "flow.geometry", "flo.geometry=euclidean", "flow.geometry=[", "training.seed=2020-13-45"):
        with pytest.raises(SettingsError, match=f"^{re.escape(change)}: expected"):
            load_settings(tmp_path / "params.yaml", tmp_path, [change])
    (tmp_path / "own.yaml").write_text("flow: null\n")
    with pytest.raises(SettingsError, match=r"own\.yaml: zoo:"):
        load_settings(tmp_path / "params.yaml", tmp_path)


def test_settings_cannot_be_changed(tmp_path):
    settings = settings_with(tmp_path, "task: wdbc\n")
    with pytest.raises(ValidationError, match="frozen"):
        settings.flow.geometry = "normalized"


WRONG = {
    "flow:\n  geometry: round": ["flow.geometry", "'round'", "'euclidean'", "'normalized'", "'geometric'"],
    "flow:\n  coupling: 3": ["flow.coupling", "3", "'independent'", "'ot'", "'initialization'"],
    "flow:\n  path_noise: -0.5": ["flow.path_noise", "-0.5", "greater than or equal to 0"],
    "flow:\n  typo: 1": ["flow.typo", "1", "unknown", "coupling", "geometry", "path_noise", "time_distribution"],
    "flo:\n  geometry: euclidean": ["flo", "unknown section", "task", "zoo", "align", "flow", "evaluate"],
    "flow: euclidean": ["flow", "'euclidean'", "mapping"],
    "flow: [euclidean]": ["flow", "['euclidean']", "mapping"],
    "zoo:\n  networks: 1": ["zoo.networks", "1", "greater than or equal to 2"],
    "zoo:\n  networks: 10.5": ["zoo.networks", "10.5", "integer"],
    "zoo:\n  networks: many": ["zoo.networks", "'many'", "integer"],
    "zoo:\n  networks: '10'": ["zoo.networks", "'10'", "integer"],
    "zoo:\n  epochs: true": ["zoo.epochs", "True", "integer"],
    "zoo:\n  learning_rate: '0.1'": ["zoo.learning_rate", "'0.1'", "number"],
    "zoo:\n  learning_rate: true": ["zoo.learning_rate", "True", "number"],
    "zoo:\n  learning_rate: 0": ["zoo.learning_rate", "0", "greater than 0"],
    "zoo:\n  learning_rate: .nan": ["zoo.learning_rate", "nan", "finite"],
    "zoo:\n  learning_rate: .inf": ["zoo.learning_rate", "inf", "finite"],
    "zoo:\n  held_out: 1.0": ["zoo.held_out", "1.0", "less than 1"],
    "zoo:\n  held_out: 0": ["zoo.held_out", "0", "greater than 0"],
    "zoo:\n  widths: []": ["zoo.widths", "[]", "at least 1"],
    "zoo:\n  widths: 16": ["zoo.widths", "16", "list"],
    "zoo:\n  widths: [16, 0]": ["zoo.widths.1", "0", "greater than or equal to 1"],
    "zoo:\n  network: rnn": ["zoo.network", "'rnn'", "'mlp'", "'cnn'", "'resnet'", "'vit'"],
    "zoo:\n  init: uniform": ["zoo.init", "'uniform'", "'normal'", "'torch'", "'he'", "'glorot'"],
    "zoo: {network: vit, widths: [16]}": ["zoo", "network: vit needs widths of a token and of at least one block", "[16]"],
    "zoo:\n  momentum: 0.9": ["zoo", "momentum (0.9)", "sgd", "adam", "momentum: 0.0"],
    "zoo:\n  skip_epochs: 50": ["zoo", "skip_epochs (50)", "smaller than epochs (50)"],
    "zoo:\n  device: gpu": ["zoo.device", "'gpu'", "auto", "cpu", "cuda"],
    "zoo:\n  seed: -1": ["zoo.seed", "-1", "greater than or equal to 0"],
    "velocity:\n  heads: 3": ["velocity", "heads (3)", "divide dimension (128)"],
    "flow: {prediction: velocity}\ntraining: {distance: geodesic}": [
        "settings",
        "geodesic needs flow.prediction: end-point",
    ],
    "training:\n  ema_decay: 1": ["training.ema_decay", "1", "less than 1"],
    "training:\n  function_floor: 2": ["training.function_floor", "2", "less than or equal to 1"],
    "velocity: {identities: true}": ["settings", "flow.coupling: initialization", "choose flow.coupling: independent or ot"],
    "flow: {coupling: equivariant-ot}\nvelocity: {identities: true}": [
        "settings",
        "flow.coupling: equivariant-ot",
        "velocity.identities: false",
    ],
    "sample: {solver: euler, diffusion: 0.5, condition_strength: 2.0}": [
        "sample",
        "diffusion (0.5)",
        "condition_strength (2.0)",
        "to 0",
    ],
    "sample:\n  diffusion_schedule: sideways": ["sample.diffusion_schedule", "'sideways'", "'constant'", "'falling'"],
    "flow: {condition: none}\nsample: {condition: 0.05}": ["sample.condition: 0.05 needs flow.condition: loss", "got none"],
    "sample: {solver: multistep, noise: 0.1}": [
        "sample",
        "noise (0.1) disturbs what multistep goes by",
        "choose solver euler",
    ],
    "sample: {solver: euler, last_step: 0.3, noise: 0.1}": [
        "sample",
        "last_step (0.3) goes with neither noise",
        "set it to 0.0",
    ],
    "sample: {last_step: 0.3, solver: dopri5}": ["sample", "last_step (0.3) goes with neither noise", "dopri5"],
    "sample: {last_step: 1.0}": ["sample.last_step", "less than 1"],
    "sample: {last_step: .nan}": ["sample.last_step", "nan"],
    "sample: {solver: euler, jumps: 2, last_step: 0.3}": ["sample", "jumps (2) do not go with last_step 0.3 (choose 0.0)"],
    "flow: {geometry: geometric}\nsample: {solver: dopri5}": [
        "sample.solver: dopri5",
        "flow.geometry: geometric",
        "choose rk4",
    ],
    "sample: {solver: euler, diffusion: 0.5}": [
        "sample.diffusion: 0.5 needs flow.geometry: euclidean, flow.coupling: independent",
        "to 0.0",
    ],
    "sample:\n  condition: .nan": ["sample.condition", "nan", "finite"],
    "sample:\n  noise_interval: [0.5, 0.0]": ["sample", "noise_interval ([0.5, 0.0])", "the earlier time first"],
    "training:\n  distillation_iterations: -1": ["training.distillation_iterations", "-1", "greater than or equal to 0"],
    "sample:\n  jumps: 3": ["sample.jumps", "3", "0, 1, 2 or 4"],
    "sample:\n  solver: euler\n  jumps: 2": [
        "settings",
        "sample.jumps: 2 needs a student; set training.distillation_iterations above 0",
    ],
    "sample: {jumps: 2, solver: heun, diffusion: 0.0, condition: 0.1}": [
        "jumps (2) do not go with solver heun (choose euler); or set jumps to 0",
    ],
    "sample: {jumps: 2, from: few-steps}": ["from: few-steps has no way to be steered on; leave out jumps"],
    "sample: {jumps: 2, guidance: 0.1, guidance_point: end-point}": ["guidance_point end-point (choose x_t)"],
    "sample:\n  polish_steps: -1": ["sample.polish_steps", "-1", "greater than or equal to 0"],
    "sample:\n  polish_learning_rate: 0": ["sample.polish_learning_rate", "0", "greater than 0"],
    "evaluate:\n  guidance: [0.1, -1]": ["evaluate.guidance.1", "-1", "greater than or equal to 0"],
}


@pytest.mark.parametrize(("text", "fragments"), WRONG.items(), ids=[text.replace("\n  ", " ") for text in WRONG])
def test_wrong_settings_are_refused_with_key_value_and_what_is_allowed(tmp_path, text, fragments):
    with pytest.raises(SettingsError) as caught:
        settings_with(tmp_path, f"task: wdbc\n{text}\n")
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "params.yaml"))
    for fragment in fragments:
        assert fragment in message, message


RIGHT = [
    "flow:\n  geometry: normalized",
    "zoo:\n  networks: 2",
    "zoo:\n  learning_rate: 1",
    "zoo:\n  held_out: 0.99",
    "zoo:\n  skip_epochs: 49",
    "zoo:\n  optimizer: sgd\n  momentum: 0.9",
    "zoo:\n  device: cuda:1",
    "velocity:\n  heads: 8",
    "sample:\n  condition: 1",
    "flow: {coupling: independent}\nsample: {solver: euler, diffusion: 0.5, diffusion_schedule: constant, condition: 0.1}",
    "sample:\n  noise_interval: [0.5, 0.5]",
]


@pytest.mark.parametrize("text", RIGHT)
def test_settings_at_the_edge_of_what_is_allowed_are_accepted(tmp_path, text):
    settings = settings_with(tmp_path, f"task: wdbc\n{text}\n").model_dump()
    for section, values in YAML(typ="safe").load(text).items():
        assert settings[section].items() >= values.items()


def test_identities_go_with_couplings_that_leave_x_0_in_its_order():
    for coupling in ("independent", "ot"):
        settings = load_settings(changes=[f"flow.coupling={coupling}", "velocity.identities=true"])
        assert settings.velocity.identities


def test_every_wrong_key_is_listed_at_once(tmp_path):
    with pytest.raises(SettingsError) as caught:
        settings_with(tmp_path, "task: wdbc\nflow:\n  geometry: round\nzoo:\n  networks: 0\n  typo: 1\n")
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    for key in ("flow.geometry", "zoo.networks", "zoo.typo"):
        assert sum(key in line for line in lines) == 1


@pytest.mark.parametrize("text", ["task: nothing\n", "flow: null\n", "task: null\n", "task: [wdbc]\n"])
def test_an_unknown_task_is_refused_with_the_known_ones(tmp_path, text):
    with pytest.raises(SettingsError, match=r"task: got .*allowed: .*wdbc"):
        settings_with(tmp_path, text)


@pytest.mark.parametrize("content", [b"", b"- 1\n", b"a: [", b"task: wdbc\ntask: wdbc\n", b"\xff\xfe\xfa"])
def test_a_file_that_holds_no_settings_is_refused_by_name(tmp_path, content):
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(SettingsError, match=r"params\.yaml: expected"):
        load_settings(tmp_path / "params.yaml", PRESETS)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"gone\.yaml"):
        load_settings(tmp_path / "gone.yaml", PRESETS)


def test_a_preset_that_lacks_a_setting_is_refused(tmp_path):
    preset = (PRESETS / "wdbc.yaml").read_text()
    (tmp_path / "params.yaml").write_text("task: short\n")
    (tmp_path / "short.yaml").write_text(preset.replace("  geometry: euclidean\n", ""))
    with pytest.raises(SettingsError, match=r"flow\.geometry"):
        load_settings(tmp_path / "params.yaml", tmp_path)


def with_kinds(tmp_path: Path, by: str = "by_network", **sections: dict) -> Path:
    """A folder with one preset, wdbc's, in which some sections say what is different for some networks or couplings."""
    known = tmp_path / "wdbc.yaml"
    preset = YAML(typ="safe").load((known if known.exists() else PRESETS / "wdbc.yaml").read_text())
    for name, kinds in sections.items():
        if name == "geometric":
            section = preset["geometries"].setdefault("geometric", {}).setdefault("training", {})
        else:
            section = preset[name]
        section[by] = kinds
    YAML(typ="safe").dump(preset, known)
    return tmp_path


def test_networks_may_have_settings_of_their_own(tmp_path):
    presets = with_kinds(
        tmp_path,
        zoo={"cnn": {"widths": [8], "init": "he"}},
        training={"cnn": {"iterations": 7, "batch_size": 5}},
        geometric={"cnn": {"iterations": 9}},
    )
    plain = load_settings(presets=presets)
    assert plain == load_settings()
    convolutional = load_settings(presets=presets, changes=["zoo.network=cnn"])
    assert (convolutional.zoo.widths, convolutional.zoo.init) == ([8], "he")
    assert (convolutional.training.iterations, convolutional.training.batch_size) == (7, 5)
    geometric = load_settings(presets=presets, changes=["zoo.network=cnn", "flow.geometry=geometric"])
    assert (geometric.training.iterations, geometric.training.batch_size) == (9, 5)
    assert load_settings(presets=presets, changes=["zoo.network=cnn", "training.iterations=3"]).training.iterations == 3
    assert load_settings(presets=presets, changes=["zoo.network=resnet"]).training == plain.training


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"zoo": {"rnn": {"widths": [8]}}},
            r"zoo\.by_network: expected a mapping of mlp, cnn, cnn-batch-norm, cnn-s, resnet, vit, got",
        ),
        ({"zoo": {"cnn": {"network": "mlp"}}}, r"zoo\.by_network\.cnn: expected settings, got"),
        ({"zoo": {"cnn": {"breadth": 8}}}, r"for zoo\.network: cnn: zoo\.breadth: .*unknown setting"),
        ({"training": {"cnn": {"iterations": 0}}}, r"training\.iterations"),
        ({"geometric": {"vit": {"iterations": 0}}}, r"geometries\.geometric: training\.iterations"),
        ({"flow": [3]}, r"flow\.by_network: expected a mapping"),
    ],
)
def test_wrong_settings_of_networks_are_refused(tmp_path, sections, message):
    with pytest.raises(SettingsError, match=message):
        load_settings(presets=with_kinds(tmp_path, **sections))


def test_couplings_may_have_settings_of_their_own(tmp_path):
    presets = with_kinds(
        tmp_path,
        "by_coupling",
        training={"independent": {"iterations": 7, "batch_size": 5}, "ot": {"batch_size": 6}},
        sample={"independent": {"steps": 3}},
        geometric={"independent": {"iterations": 9}},
    )
    assert load_settings(presets=presets) == load_settings()
    independent = load_settings(presets=presets, changes=["flow.coupling=independent"])
    assert (independent.training.iterations, independent.training.batch_size, independent.sample.steps) == (7, 5, 3)
    geometric = load_settings(presets=presets, changes=["flow.coupling=independent", "flow.geometry=geometric"])
    assert (geometric.training.iterations, geometric.training.batch_size) == (9, 5)
    changes = ["flow.coupling=independent", "training.iterations=3"]
    assert load_settings(presets=presets, changes=changes).training.iterations == 3
    assert load_settings(presets=presets, changes=["flow.coupling=ot"]).training.batch_size == 6


def test_a_coupling_may_be_that_of_a_kind_of_network(tmp_path):
    presets = with_kinds(tmp_path, flow={"cnn": {"coupling": "ot"}})
    presets = with_kinds(presets, "by_coupling", training={"ot": {"iterations": 7}})
    assert load_settings(presets=presets).training == load_settings().training
    assert load_settings(presets=presets, changes=["zoo.network=cnn"]).training.iterations == 7
    other = load_settings(presets=presets, changes=["zoo.network=cnn", "flow.coupling=independent"])
    assert other.training == load_settings().training


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"flow": {"transport": {}}}, r"flow\.by_coupling: expected a mapping of independent, ot, .* got"),
        ({"flow": {"ot": {"coupling": "ot"}}}, r"flow\.by_coupling\.ot: expected settings, got"),
        ({"sample": {"ot": {"steps": 0}}}, r"for flow\.coupling: ot: sample\.steps: got 0"),
        ({"geometric": {"ot": {"iterations": 0}}}, r"for flow\.coupling: ot: geometries\.geometric: training\.iterations"),
    ],
)
def test_wrong_settings_of_couplings_are_refused(tmp_path, sections, message):
    with pytest.raises(SettingsError, match=message):
        load_settings(presets=with_kinds(tmp_path, "by_coupling", **sections))


def test_settings_inside_settings_are_joined_one_by_one(tmp_path):
    settings = settings_with(tmp_path, "task: wdbc\nzoo:\n  source: mine\n  read:\n    activation: null\n    every: 3\n")
    assert (settings.zoo.read.every, settings.zoo.read.activation, settings.zoo.read.snapshots) == (3, None, "all")
    params = tmp_path / "params.yaml"
    changed = load_settings(params, PRESETS, ["zoo.read.activation=tanh", "zoo.read.where=[step > 3]"])
    assert changed.zoo.read == ReadConfig(every=3, activation="tanh", where=["step > 3"])
    for change, sentence in {
        "zoo.read.evry=2": r"zoo.read.evry: got 2; unknown setting; allowed: activation, every, ",
        "zoo.read.every=0": r"zoo.read.every: got 0",
        "zoo.read.=2": "expected section.key=value",
        "zoo.read=3": r"zoo.read: got 3",
    }.items():
        with pytest.raises(SettingsError, match=sentence):
            load_settings(params, PRESETS, [change])


@pytest.mark.parametrize("steered", ["guidance=0.1", "noise=0.1", "diffusion=0.1", "condition=0.2", "jumps=1"])
def test_only_a_flow_can_be_steered_on_its_way(steered):
    changes = ["sample.solver=euler", f"sample.{steered}", "flow.condition=loss", "flow.coupling=independent"]
    if steered.startswith("jumps"):
        changes = ["sample.solver=euler", f"sample.{steered}", "training.distillation_iterations=10"]
    load_settings(changes=changes)
    with pytest.raises(
        SettingsError, match=f"from: few-steps has no way to be steered on; leave out {steered.split('=')[0]}"
    ):
        load_settings(changes=[*changes, "sample.from=few-steps"])
