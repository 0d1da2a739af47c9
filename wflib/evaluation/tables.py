"""The tables that an evaluation is kept in: written by the stage evaluate, read by the stage report."""

from __future__ import annotations

from wflib.evaluation.barrier import BARRIER_SCHEMA
from wflib.evaluation.moments import MOMENT_SCHEMA
from wflib.evaluation.parts import PART_SCHEMA
from wflib.evaluation.pictures import PICTURE_SCHEMA
from wflib.evaluation.reliability import RELIABILITY_SCHEMA
from wflib.evaluation.summary import CURVE_SCHEMA, GROUP_SCHEMA, NETWORK_SCHEMA

__all__ = ["TABLES"]

TABLES: dict[str, dict[str, str]] = {
    "networks": NETWORK_SCHEMA,
    "groups": GROUP_SCHEMA,
    "moments": MOMENT_SCHEMA,
    "barriers": BARRIER_SCHEMA,
    "curve": CURVE_SCHEMA,
    "parts": PART_SCHEMA,
    "pictures": PICTURE_SCHEMA,
    "reliability": RELIABILITY_SCHEMA,
}
"""Name → column → dtype."""
