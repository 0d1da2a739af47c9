"""Imports inside wflib run one way, stages stay apart, and modules stay short enough to read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.imports import imported_modules, module_name, python_files

ROOT = Path(__file__).resolve().parents[1]
LAYERS = [
    {"activation", "architecture", "compiled", "config", "device", "distributed", "networks", "rng", "storage", "tasks"},
    {"symmetry", "manifold", "graph"},
    {"zoo"},
    {"velocity"},
    {"flow"},
    {"models"},
    {"evaluation"},
    {"measurements", "report"},
    {"pages"},
    {"comparison", "shortcuts"},
    {"demo"},
    {"command"},
    {"__main__"},
]
RANK = {package: rank for rank, layer in enumerate(LAYERS) for package in layer}
TESTING_RANK = RANK["flow"]
LONGEST_MODULE = 300


def package_of(module: str) -> str:
    """``wflib.symmetry.scaling`` → ``symmetry``; the root package itself → ``wflib``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "wflib"


def layer_violations(root: Path) -> list[str]:
    """Every import in wflib or a stage that runs upwards, in a circle, or from one stage to another."""
    found, edges = [], {}
    for path in python_files(root, "wflib", "stages"):
        importer = module_name(root, path)
        for imported in sorted(imported_modules(root, path)):
            arrow = f"{importer} imports {imported}"
            if importer.startswith("stages"):
                if imported.startswith("stages.") and imported not in ("stages.common", importer):
                    found.append(f"{arrow}: stages never import each other; share code in stages/common.py or wflib")
                continue
            source, target = package_of(importer), package_of(imported)
            if imported.startswith("stages"):
                found.append(f"{arrow}: wflib knows nothing of stages")
            elif source == target:
                continue
            elif target == "testing":
                found.append(f"{arrow}: wflib.testing is for tests and stages")
            elif source == "wflib":
                continue
            elif source == "testing":
                if RANK.get(target, len(LAYERS)) > TESTING_RANK:
                    found.append(f"{arrow}: wflib.testing may import up to flow")
            elif source not in RANK:
                found.append(f"{arrow}: {source} has no layer; give it one in tests/test_layers.py")
            elif RANK.get(target, len(LAYERS)) > RANK[source]:
                found.append(f"{arrow}: imports run downwards, {target} is above {source}")
            else:
                edges.setdefault(source, set()).add(target)
    return found + [
        f"wflib.{package} imports itself through {edges[package]}" for package in edges if reaches(edges, package)
    ]


def reaches(edges: dict[str, set[str]], start: str) -> bool:
    """Whether a path of imports leads from a package back to itself."""
    seen, pending = set(), list(edges[start])
    while pending:
        package = pending.pop()
        if package not in seen:
            seen.add(package)
            pending += edges.get(package, ())
    return start in seen


def too_long(root: Path) -> list[str]:
    """Modules of more than ``LONGEST_MODULE`` lines."""
    lengths = {path: len(path.read_text().splitlines()) for path in python_files(root, "wflib", "stages")}
    return [f"{path.relative_to(root)}: {length} lines" for path, length in lengths.items() if length > LONGEST_MODULE]


def test_imports_run_one_way():
    assert layer_violations(ROOT) == []


def test_modules_stay_short():
    assert too_long(ROOT) == []


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"wflib/zoo/a.py": "from wflib.flow import path"}, "wflib.zoo.a imports wflib.flow.path: imports run downwards"),
        ({"wflib/rng.py": "def f():\n    import wflib.symmetry"}, "wflib.rng imports wflib.symmetry: imports run downwards"),
        ({"wflib/graph/a.py": "from ..report import figures"}, "wflib.graph.a imports wflib.report: imports run downwards"),
        ({"wflib/flow/a.py": "from wflib import report"}, "wflib.flow.a imports wflib.report: imports run downwards"),
        ({"wflib/zoo/a.py": "import wflib"}, "wflib.zoo.a imports wflib: imports run downwards"),
        ({"wflib/utils.py": "import wflib.rng"}, "utils has no layer"),
        ({"wflib/graph/a.py": "import wflib.zoo.a", "wflib/zoo/a.py": "import wflib.graph.a"}, "zoo is above graph"),
        ({"wflib/graph/a.py": "import wflib.symmetry", "wflib/symmetry/b.py": "import wflib.graph"}, "imports itself"),
        ({"wflib/flow/a.py": "import wflib.testing"}, "wflib.testing is for tests and stages"),
        ({"wflib/testing/a.py": "import wflib.report"}, "may import up to flow"),
        ({"stages/align.py": "from stages.sample import main"}, "stages never import each other"),
        ({"stages/align.py": "from stages import sample"}, "stages never import each other"),
        ({"wflib/flow/a.py": "from stages import sample"}, "wflib knows nothing of stages"),
    ],
)
def test_the_checker_reports_what_it_should(tmp_path, files, complaint):
    packages = [
        "wflib",
        "wflib/flow",
        "wflib/graph",
        "wflib/report",
        "wflib/symmetry",
        "wflib/testing",
        "wflib/zoo",
        "stages",
    ]
    skeleton = {f"{package}/__init__.py": "" for package in packages} | {"wflib/flow/path.py": "", "stages/sample.py": ""}
    for name, text in (skeleton | files).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert [line for line in layer_violations(tmp_path) if complaint in line]


def test_the_checker_accepts_downward_imports(tmp_path):
    files = {
        "wflib/__init__.py": "from wflib.flow import path",
        "wflib/flow/__init__.py": "",
        "wflib/flow/path.py": "from wflib.rng import generator\nimport wflib.symmetry",
        "wflib/symmetry/__init__.py": "",
        "wflib/rng.py": "import torch",
        "stages/__init__.py": "",
        "stages/common.py": "",
        "stages/align.py": "from stages.common import device\nfrom wflib import flow",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert layer_violations(tmp_path) == []


def test_the_length_law_reports_a_long_module(tmp_path):
    (tmp_path / "wflib").mkdir()
    (tmp_path / "wflib" / "long.py").write_text("\n" * (LONGEST_MODULE + 1))
    assert too_long(tmp_path) == [f"wflib/long.py: {LONGEST_MODULE + 1} lines"]
