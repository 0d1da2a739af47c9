"""What others install: a wheel without stages, that works by itself, built of a complete source distribution."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[1]
SMOKE = """
import sys
import wflib
assert wflib.__file__.startswith(sys.argv[1]), wflib.__file__
from wflib.demo import demo_settings
from wflib.report.document import template_text
assert demo_settings().task == "wdbc"
assert template_text("report.html.j2")
try:
    import stages
except ImportError:
    pass
else:
    raise SystemExit(f"stages came along: {stages.__file__}")
import torch
from wflib.architecture import mlp
architecture = mlp([3, 4, 2])
print(len(wflib.align(wflib.Networks(architecture, architecture.unflatten(torch.randn(2, architecture.dimension))))))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the source distribution, and the wheel that was built of it."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("built")
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, files.split("\0")):
        if (ROOT / name).is_file():
            (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "tree" / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(folder / "tree")]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    return folder / "dist"


def test_the_wheel_has_the_library_alone(built):
    names = ZipFile(next(built.glob("*.whl"))).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"wflib"}
    inside = {str(path.relative_to(ROOT)) for path in (ROOT / "wflib").rglob("*") if path.is_file()}
    wanted = {name for name in inside if Path(name).suffix in {".py", ".pyi", ".j2", ".cpp", ".h", ".yaml", ".typed"}}
    assert {name for name in wanted if name not in names} == {*()}


def test_the_source_distribution_has_all_that_a_checkout_needs(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"dvc.yaml", "params.yaml", "Makefile", "mkdocs.yml", "constraints.txt", "stages/align.py", "docs/index.md"}
    needed |= {"stages/presets/wdbc.yaml", "tests/test_layers.py", "examples/merge_two_networks.py", "LICENSE"}
    assert needed <= names


def test_the_wheel_works_alone(built, tmp_path):
    wheel, place = next(built.glob("*.whl")), tmp_path / "installed"
    ZipFile(wheel).extractall(place)
    environment = {**os.environ, "PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [sys.executable, "-c", SMOKE, str(place)], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "2"
    entry = next(name for name in ZipFile(wheel).namelist() if name.endswith("entry_points.txt"))
    assert "wflib = wflib.command:app" in ZipFile(wheel).read(entry).decode()
