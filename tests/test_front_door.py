"""What ``import wflib`` offers, and that it loads nothing before it is asked."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import wflib


@pytest.mark.parametrize("name", wflib.__all__)
def test_every_name_is_there(name):
    assert callable(getattr(wflib, name))
    assert name in wflib.HOMES


def test_others_are_not():
    with pytest.raises(AttributeError, match=r"no attribute 'nothing'; it has Architecture, .* symmetries and"):
        wflib.nothing  # noqa: B018


def test_editors_see_the_same_names():
    stub = (Path(wflib.__file__).parent / "__init__.pyi").read_text()
    imported = {alias.asname or alias.name for node in ast.parse(stub).body for alias in getattr(node, "names", [])}
    assert imported == set(wflib.__all__)
    assert set(wflib.__all__) <= set(dir(wflib))


def test_nothing_is_loaded_before_it_is_asked_for():
    code = "import sys, wflib; before = 'torch' in sys.modules; wflib.symmetries; print(before, 'torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.split() == ["False", "True"]


def test_loading_warns_of_nothing():
    """Strict users turn warnings into errors; what packages say of their own imports is none of their business."""
    packages = "demo, flow, graph.pyg, manifold, models, report, velocity, zoo"
    code = (
        f"import wflib; [getattr(wflib, name) for name in wflib.__all__]; import wflib.{packages.replace(', ', ', wflib.')}"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
