"""All stages on a device that is not the CPU, pretended where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pretended import pretended_device
from tests.stages.test_stages import STAGES, project, run  # noqa: F401 (project is a fixture)


@pytest.mark.parametrize("geometry", ["euclidean", "geometric"])
def test_the_whole_pipeline(project, geometry, monkeypatch):  # noqa: F811
    monkeypatch.setenv("WFLIB_TRACEBACK", "1")
    Path("params.yaml").write_text(f"task: wdbc\nflow: {{geometry: {geometry}, coupling: initialization}}\n")
    for stage in STAGES:
        run(stage, "--help")  # imported before the device is pretended
    with pretended_device():
        for stage in STAGES:
            result = run(stage)
            assert result.exit_code == 0, f"{stage}: {result.output} {result.exception}"
