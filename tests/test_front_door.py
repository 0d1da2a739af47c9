"""What ``import wflib`` offers, and that it loads nothing before it is asked."""

from __future__ import annotations

import subprocess
import sys

import pytest

import wflib


@pytest.mark.parametrize("name", wflib.__all__)
def test_every_name_is_there(name):
    assert callable(getattr(wflib, name))
    assert name in wflib.HOMES


def test_others_are_not():
    with pytest.raises(AttributeError, match="no attribute 'nothing'; it has symmetries"):
        wflib.nothing  # noqa: B018


def test_nothing_is_loaded_before_it_is_asked_for():
    code = "import sys, wflib; before = 'torch' in sys.modules; wflib.symmetries; print(before, 'torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.split() == ["False", "True"]
