"""dvc.yaml says what stages depend on, and params.yaml what can be set: both checked against the code."""

from __future__ import annotations

import itertools
import re
import runpy
import shlex
import sys
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from dvc.schema import COMPILED_MULTI_STAGE_SCHEMA
from ruamel.yaml import YAML
from voluptuous import Invalid

import stages.cell
import stages.page
import wflib
from tests.documents import parse
from tests.imports import imported_modules, is_empty, python_files, transitive_imports
from wflib.config import Settings, load_settings
from wflib.evaluation import TABLES
from wflib.measurements.models import CONTROLS
from wflib.models import METHODS, check_methods

ROOT = Path(__file__).resolve().parents[1]
PRESETS = sorted((ROOT / "stages" / "presets").glob("*.yaml"))


def read_yaml(path: Path) -> dict[str, Any]:
    return YAML(typ="safe").load(path.read_text())


def stage_definitions(pipeline: Path) -> dict[str, dict[str, Any]]:
    """Stage name → definition; ``foreach`` stages by what they do."""
    return {name: stage.get("do", stage) for name, stage in read_yaml(pipeline)["stages"].items()}


def stage_modules(stage: dict[str, Any]) -> list[str]:
    """The modules ``stages.x`` that a stage's commands run."""
    commands = stage["cmd"] if isinstance(stage["cmd"], list) else [stage["cmd"]]
    return [name for command in commands for name in re.findall(r"python -m (stages(?:\.\w+)+)", command)]


def code_deps(stage: dict[str, Any]) -> set[str]:
    """What a stage lists of wflib and stages, presets excepted."""
    paths = {path if isinstance(path, str) else next(iter(path)) for path in stage.get("deps", [])}
    return {path for path in paths if path.split("/")[0] in ("wflib", "stages") and not path.startswith("stages/presets")}


def covers(dep: str, file: str) -> bool:
    return file == dep or file.startswith(dep.rstrip("/") + "/")


def is_lazy(root: Path, file: Path) -> bool:
    """Whether a file is wflib's front door that loads nothing of wflib until asked: no stage enters by it."""
    return file == root / "wflib" / "__init__.py" and not imported_modules(root, file)


def dependency_errors(root: Path, name: str, stage: dict[str, Any]) -> list[str]:
    """What a stage's ``deps`` lack of its code, and what they list without need."""
    modules = stage_modules(stage)
    if not modules:
        return [f"{name}: cmd runs no `python -m stages.<module>`: {stage['cmd']}"]
    needed, errors = set(), []
    for module in modules:
        path = root.joinpath(*module.split(".")).with_suffix(".py")
        if not path.is_file():
            errors.append(f"{name}: {module} has no file {path.relative_to(root)}")
            continue
        files = [file for file in transitive_imports(root, path) if not is_empty(file) and not is_lazy(root, file)]
        needed |= {str(file.relative_to(root)) for file in files}
    deps = code_deps(stage)
    missing = sorted(file for file in needed if not any(covers(dep, file) for dep in deps))
    unused = sorted(dep for dep in deps if not any(covers(dep, file) for file in needed))
    absent = sorted(dep for dep in deps if not (root / dep).exists())
    errors += [f"{name}: add to deps (or a folder that holds it): {file}" for file in missing]
    errors += [f"{name}: remove from deps, nothing in it is imported: {dep}" for dep in unused]
    return errors + [f"{name}: deps names what does not exist: {dep}" for dep in absent]


def key_errors(params: dict[str, Any], preset: dict[str, Any]) -> list[str]:
    """Sections that one of params.yaml and a preset has and the other has not, and keys that no preset takes."""
    errors = [f"params.yaml lacks section {section}: {{}}" for section in preset.keys() - params.keys() - {"geometries"}]
    # dvc.yaml names geometries, so that a preset without any says {}.
    errors += [f"preset lacks section {section}" for section in (params.keys() | {"geometries"}) - preset.keys() - {"task"}]
    for section in params.keys() & preset.keys():
        errors += [f"preset lacks {section}.{key}" for key in (params[section] or {}).keys() - preset[section].keys()]
    return sorted(errors)


def named_params(stage: dict[str, Any]) -> list[tuple[str, str]]:
    """File and key of all settings that a stage depends on; whole files are left out."""
    groups = [{"params.yaml": [one]} if isinstance(one, str) else one for one in stage.get("params", [])]
    return [(file, key) for group in groups for file, keys in group.items() for key in keys or ()]


def absent_params(root: Path, stages: dict[str, dict[str, Any]]) -> list[str]:
    """Settings that stages depend on and files do not have, for which DVC refuses to run."""
    absent, nothing = [], object()
    for name, stage in stages.items():
        for file, key in named_params(stage):
            for path in sorted(root.glob(file.replace("${task}", "*"))):
                found: Any = read_yaml(path)
                for part in key.split("."):
                    found = found.get(part, nothing) if isinstance(found, dict) else nothing
                absent += [f"{name}: {path.name} has no {key}"] if found is nothing else []
    return absent


PIPELINES = sorted(str(path.relative_to(ROOT)) for path in [ROOT / "dvc.yaml", *ROOT.glob("reports/*/dvc.yaml")])


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_dvc_accepts_the_file(pipeline):
    """One file that DVC refuses stops every command, in all pipelines."""
    definition = read_yaml(ROOT / pipeline)
    COMPILED_MULTI_STAGE_SCHEMA(definition)
    next(iter(definition["stages"].values()))["description"] = "no key of DVC's"
    with pytest.raises(Invalid):
        COMPILED_MULTI_STAGE_SCHEMA(definition)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_deps_are_the_code_that_runs(pipeline):
    errors = [
        error for name, stage in stage_definitions(ROOT / pipeline).items() for error in dependency_errors(ROOT, name, stage)
    ]
    assert errors == [], f"{pipeline}:\n" + "\n".join(errors)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_settings_that_stages_depend_on_are_there(pipeline):
    assert absent_params(ROOT, stage_definitions(ROOT / pipeline)) == []


def test_absent_settings_are_found(tmp_path):
    (tmp_path / "params.yaml").write_text("task: a\nflow: {}\n")
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets/a.yaml").write_text("flow: {seed: 0}\n")
    stages = {"x": {"params": ["flow", "flow.seed", "zoo", {"presets/${task}.yaml": ["flow.seed", "flow.seed.deep"]}]}}
    found = ["x: params.yaml has no flow.seed", "x: params.yaml has no zoo", "x: a.yaml has no flow.seed.deep"]
    assert sorted(absent_params(tmp_path, stages)) == sorted(found)


def test_the_first_stage_runs_for_every_setting_and_so_checks_them_all():
    first = next(iter(stage_definitions(ROOT / "dvc.yaml").values()))
    assert {file: keys for group in first["params"] for file, keys in group.items()} == {
        "params.yaml": None,
        "stages/presets/${task}.yaml": None,
    }


def test_every_stage_of_the_pipeline_says_what_it_does():
    assert [name for name, stage in stage_definitions(ROOT / "dvc.yaml").items() if not stage.get("desc")] == []


def test_artifacts_are_outputs_that_the_library_reads():
    pipeline = read_yaml(ROOT / "dvc.yaml")
    outs = {out for stage in pipeline["stages"].values() for out in stage["outs"] if isinstance(out, str)}
    assert {artifact["path"] for artifact in pipeline["artifacts"].values()} <= outs
    for artifact in pipeline["artifacts"].values():
        reader = re.search(r"wflib((?:\.\w+)+)", artifact["desc"])[1]
        assert callable(attrgetter(reader[1:])(wflib))


def test_every_table_of_an_evaluation_is_an_output_and_an_input_of_the_report():
    stages, tables = read_yaml(ROOT / "dvc.yaml")["stages"], {f"data/evaluation/{name}.parquet" for name in TABLES}
    for stage, key in (("evaluate", "outs"), ("report", "deps")):
        assert {path for path in stages[stage][key] if str(path).endswith(".parquet")} == tables


def test_every_stage_module_runs_somewhere():
    stages = [stage for pipeline in PIPELINES for stage in stage_definitions(ROOT / pipeline).values()]
    run = {module for stage in stages for module in stage_modules(stage)}
    files = {f"stages.{path.stem}" for path in (ROOT / "stages").glob("*.py")} - {"stages.__init__", "stages.common"}
    assert run == files


def unnamed_sections(code: str, *stages: dict[str, Any]) -> set[str]:
    """Sections of settings that a stage's code reads and no params of the stages name, nor a setting of them."""
    groups = [keys for stage in stages for one in stage.get("params", []) if isinstance(one, dict) for keys in one.values()]
    if None in groups:  # a whole file
        return set()
    named = {key.partition(".")[0] for keys in groups for key in keys or ()}
    return set(re.findall(r"\bsettings\.(\w+)", code)) - named - {"task", "model_dump"}


def test_params_name_every_section_that_a_stage_reads():
    stages: dict[str, list[dict[str, Any]]] = {}
    for stage in stage_definitions(ROOT / "dvc.yaml").values():
        if stage.get("params"):
            stages.setdefault(stage_modules(stage)[0], []).append(stage)
    assert stages
    for module, several in stages.items():
        code = (ROOT / f"{module.replace('.', '/')}.py").read_text()
        assert (module, unnamed_sections(code, *several)) == (module, set())
    code = "settings.flow, settings.zoo"
    assert unnamed_sections(code, {"params": [{"params.yaml": ["flow.seed"]}]}) == {"zoo"}
    assert unnamed_sections(code, {"params": [{"params.yaml": None}]}) == set()


@pytest.mark.parametrize("stage", sorted(path.stem for path in (ROOT / "stages").glob("[!_]*.py") if path.stem != "common"))
def test_every_stage_runs_when_it_is_run_as_a_module(stage, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [stage, "--help"])
    monkeypatch.delitem(sys.modules, f"stages.{stage}", raising=False)
    with pytest.raises(SystemExit):  # a module that only defines its command ends without a word
        runpy.run_module(f"stages.{stage}", run_name="__main__")
    assert "Usage" in capsys.readouterr().out


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_presets_say_every_setting_and_params_have_their_sections(preset):
    sections, models = read_yaml(preset), {name: field.annotation for name, field in Settings.model_fields.items()}
    assert key_errors(read_yaml(ROOT / "params.yaml"), sections) == []
    for name in sections.keys() - {"geometries", "models"}:
        known = {field.alias or key for key, field in models[name].model_fields.items()}
        assert (name, set(sections[name]) - {"by_network", "by_coupling"}) == (name, known)


@pytest.mark.parametrize("network", [None, "cnn", "vit"])
@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_what_params_say_outright_is_what_the_presets_say(preset, network, tmp_path):
    """So that another task alone, or another network, is that preset and nothing else."""
    params = (ROOT / "params.yaml").read_text()
    changes = [f"zoo.network={network}", "zoo.widths=[8,8]"] if network else []
    found = []
    for text in (re.sub(r"(?m)^task: \w+", f"task: {preset.stem}", params), f"task: {preset.stem}\n"):
        (tmp_path / "params.yaml").write_text(text)
        found.append(load_settings(tmp_path / "params.yaml", preset.parent, changes))
    assert found[0] == found[1]
    (tmp_path / "params.yaml").write_text(f"task: {preset.stem}\ntraining: {{seed: 1}}\n")
    assert load_settings(tmp_path / "params.yaml", preset.parent, changes) != found[1]


def test_params_are_short_and_say_no_null():
    text = (ROOT / "params.yaml").read_text()
    assert len(text.splitlines()) <= 25
    assert "null" not in text


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_presets_are_valid_for_every_geometry(preset, tmp_path):
    params = tmp_path / "params.yaml"
    params.write_text(f"task: {preset.stem}\n")
    for geometry in ("euclidean", "normalized", "geometric"):
        settings = load_settings(params, preset.parent, [f"flow.geometry={geometry}"])
        assert (settings.task, settings.flow.geometry) == (preset.stem, geometry)


def test_params_are_valid():
    assert load_settings(ROOT / "params.yaml", ROOT / "stages" / "presets").task in {preset.stem for preset in PRESETS}


def test_key_errors_name_what_differs():
    params = {"task": "a", "zoo": {"seed": None, "gone": None}, "extra": None}
    assert key_errors(params, {"zoo": {"seed": 0, "new": 1}, "flow": {}}) == [
        "params.yaml lacks section flow: {}",
        "preset lacks section extra",
        "preset lacks section geometries",
        "preset lacks zoo.gone",
    ]


@pytest.fixture
def project(tmp_path):
    """A stage that imports one module at its top and another inside a function, through packages."""
    files = {
        "stages/__init__.py": "",
        "stages/common.py": "from wflib.rng import generator",
        "stages/align.py": "from stages.common import generator\n\n\ndef main():\n    from wflib.symmetry import permute",
        "wflib/__init__.py": '"""Only words."""',
        "wflib/rng.py": "generator = None",
        "wflib/unused.py": "x = 1",
        "wflib/symmetry/__init__.py": "from wflib.symmetry.permutation import permute",
        "wflib/symmetry/permutation.py": "from ..storage.atomic import permute",
        "wflib/storage/__init__.py": "x = 1",
        "wflib/storage/atomic.py": "permute = None",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


COMPLETE = ["stages/align.py", "stages/common.py", "wflib/rng.py", "wflib/symmetry", "wflib/storage", "data/zoo.safetensors"]


def test_complete_deps_are_accepted(project):
    files = {str(path.relative_to(project)) for path in transitive_imports(project, project / "stages/align.py")}
    assert files == {str(path.relative_to(project)) for path in python_files(project, "stages", "wflib")} - {
        "wflib/unused.py"
    }
    stage = {"cmd": "python -m stages.align --out data", "deps": COMPLETE}
    assert dependency_errors(project, "align", stage) == []


@pytest.mark.parametrize("lacking", [dep for dep in COMPLETE if not dep.startswith("data")])
def test_a_missing_dep_is_reported(project, lacking):
    stage = {"cmd": "python -m stages.align", "deps": [dep for dep in COMPLETE if dep != lacking]}
    errors = dependency_errors(project, "align", stage)
    assert errors
    assert all(error.startswith(f"align: add to deps (or a folder that holds it): {lacking}") for error in errors)


def test_a_package_is_not_covered_by_one_of_its_modules(project):
    deps = [dep for dep in COMPLETE if dep != "wflib/storage"] + ["wflib/storage/atomic.py"]
    errors = dependency_errors(project, "align", {"cmd": "python -m stages.align", "deps": deps})
    assert errors == ["align: add to deps (or a folder that holds it): wflib/storage/__init__.py"]


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ("wflib/unused.py", "align: remove from deps, nothing in it is imported: wflib/unused.py"),
        ("wflib/gone.py", "align: deps names what does not exist: wflib/gone.py"),
    ],
)
def test_a_needless_dep_is_reported(project, extra, complaint):
    stage = {"cmd": "python -m stages.align", "deps": [*COMPLETE, extra]}
    assert complaint in dependency_errors(project, "align", stage)


def test_a_stage_without_a_module_is_reported(project):
    assert "runs no" in dependency_errors(project, "align", {"cmd": "python stages/align.py", "deps": COMPLETE})[0]
    assert "has no file" in dependency_errors(project, "align", {"cmd": "python -m stages.gone", "deps": []})[0]


def test_relative_and_nested_imports_are_seen(project):
    found = imported_modules(project, project / "wflib/symmetry/permutation.py")
    assert found == {"wflib.storage.atomic"}
    assert "wflib.symmetry" in imported_modules(project, project / "stages/align.py")


@pytest.mark.parametrize(("text", "needed"), [("NAMES = {}\n", False), ("from wflib.rng import generator\n", True)])
def test_the_front_door_counts_only_where_it_loads_something(project, text, needed):
    (project / "wflib/__init__.py").write_text(text)
    errors = dependency_errors(project, "align", {"cmd": "python -m stages.align", "deps": COMPLETE})
    assert errors == (["align: add to deps (or a folder that holds it): wflib/__init__.py"] if needed else [])


def test_the_small_form_of_the_paper_is_the_same_pipeline_with_other_params():
    paper, quick = (ROOT / "reports" / name for name in ("paper", "quick"))
    assert (paper / "dvc.yaml").read_bytes() == (quick / "dvc.yaml").read_bytes()
    full, small = read_yaml(paper / "params.yaml"), read_yaml(quick / "params.yaml")
    assert full.keys() == small.keys()
    assert all(full[key].keys() == small[key].keys() for key in full if isinstance(full[key], dict))
    assert not {full[key] for key in ("profile", "results")} & {small[key] for key in ("profile", "results")}


PAPER_CELLS = [
    pytest.param(folder, name, stage, id=f"{folder}:{name}")
    for folder in ("paper", "quick")
    for name, stage in stage_definitions(ROOT / f"reports/{folder}/dvc.yaml").items()
    if name != "page"
]


@pytest.mark.parametrize(("folder", "name", "stage"), PAPER_CELLS)
def test_commands_of_the_paper_parse_and_name_what_they_depend_on(folder, name, stage):
    params, matrix = read_yaml(ROOT / f"reports/{folder}/params.yaml"), stage.get("matrix", {})
    first = {key: (lookup(params, values[2:-1]) if isinstance(values, str) else values)[0] for key, values in matrix.items()}

    def filled(text: str) -> str:
        return re.sub(r"\$\{([\w.]+)\}", lambda match: str(lookup({**params, "item": first}, match[1])), text)

    words = shlex.split(filled(stage["cmd"]))
    assert "  " not in filled(stage["cmd"])  # a lock breaks lines at spaces and keeps one, and the command seems changed
    assert words[:3] == ["python", "-m", "stages.cell"]
    parse(stages.cell.app, words[3:])
    deps = [filled(dep) for dep in stage["deps"]]
    (out,) = (filled(path) for made in stage["outs"] for path in made)
    assert words[4] == out
    given = [word for option, word in itertools.pairwise(words) if word.endswith(".safetensors") and option.startswith("--")]
    assert {str(Path(path).parent) for path in given} == {dep for dep in deps if dep.startswith("data/")}
    settings = [word for option, word in itertools.pairwise(words) if option == "--params"]
    assert settings == [dep for dep in deps if dep.startswith("reports/")]
    changes = [word for option, word in itertools.pairwise(words) if option == "--set"]
    for path in settings:
        loaded = load_settings(ROOT / path, ROOT / "stages/presets", changes)
        assert f"stages/presets/{loaded.task}.yaml" in deps


@pytest.mark.parametrize("pipeline", sorted((ROOT / "reports").glob("*/dvc.yaml")), ids=lambda path: path.parent.name)
def test_outputs_of_pipelines_that_nobody_has_asked_for_are_not_in_the_cache(pipeline):
    """``dvc exp run`` and ``dvc checkout`` warn of each cached output that was never made, hundreds of them."""
    made = [out for stage in stage_definitions(pipeline).values() for out in stage["outs"]]
    assert made
    for out in made:
        assert isinstance(out, dict), out
        assert [settings["cache"] for settings in out.values()] == [False]


def cells_of(stage: dict[str, Any]) -> list[dict[str, Any]]:
    """What is known in each cell of a stage: an item of its matrix or of its ``foreach``."""
    if "foreach" in stage:
        return [{"key": key, "item": item} for key, item in stage["foreach"].items()]
    matrix = stage.get("matrix", {})
    return [{"item": dict(zip(matrix, values, strict=True))} for values in itertools.product(*matrix.values())]


def filled(text: str, known: dict[str, Any]) -> str:
    return re.sub(r"\$\{([\w.]+)\}", lambda match: str(lookup(known, match[1])), text)


@pytest.mark.parametrize("folder", ["studies", "audit", "peers"])
def test_commands_of_studies_parse(folder):
    outs: list[str] = []
    for name, stage in read_yaml(ROOT / f"reports/{folder}/dvc.yaml")["stages"].items():
        for known in cells_of(stage):
            command = filled(stage.get("do", stage)["cmd"], known)
            words = shlex.split(command)
            assert "  " not in command
            parse({"stages.cell": stages.cell.app, "stages.page": stages.page.app}[words[2]], words[3:])
            if words[2] != "stages.cell":
                continue
            outs.append(words[4])
            changes = [word for option, word in itertools.pairwise(words) if option == "--set"]
            given = dict(itertools.pairwise(words))
            loaded = load_settings(ROOT / given.get("--params", "params.yaml"), ROOT / "stages/presets", changes)
            if "params" in stage.get("do", stage):
                continue
            # Settings' files and all others read are deps.
            needed = {str(Path(word).parent) for word in words[5:] if word.startswith("data/")}
            needed |= {given["--params"], f"stages/presets/{loaded.task}.yaml"} if "--params" in given else set()
            assert needed <= {filled(dep, known) for dep in stage["deps"]}, name
    assert len(set(outs)) == len(outs)


def test_the_audit_has_every_model_on_every_split_and_hmc_where_it_is_cheap():
    found: dict[tuple[str, int], list[str]] = {}
    for stage in read_yaml(ROOT / "reports/audit/dvc.yaml")["stages"].values():
        for known in cells_of(stage):
            words = shlex.split(filled(stage["cmd"], known))
            if words[3] == "model":
                given = dict(itertools.pairwise(words))
                changes = [word for option, word in itertools.pairwise(words) if option == "--set"]
                settings = load_settings(ROOT / given["--params"], ROOT / "stages/presets", changes)
                assert settings.data.split == settings.zoo.seed == int(given["--seed"])
                check_methods(settings)
                found.setdefault((settings.task, settings.data.split), []).append(given["--model"])
    assert set(found) == {(task, seed) for task in ("wdbc", "mnist") for seed in (0, 1, 2)}
    for (task, _), models in found.items():
        assert sorted(models) == sorted({"flow", *CONTROLS, *METHODS} - ({"hmc"} if task == "mnist" else set()))


def lookup(values: dict[str, Any], dotted: str) -> Any:
    for key in dotted.split("."):
        values = values[key]
    return values
