"""A fabricated run: what the report needs, with numbers whose reading is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from wflib.report import ReportData

# source: networks, accuracy, nll, ece, nearest distance, error overlap
SOURCES = {
    "samples": (64, 0.960, 0.130, 0.040, 12.3, 0.37),
    "zoo": (80, 0.983, 0.072, 0.020, np.nan, np.nan),
    "held-out": (20, 0.982, 0.074, 0.021, 12.2, 0.49),
    "average": (1, 0.99, 0.150, 0.090, np.nan, np.nan),
    "gaussian-diagonal": (64, 0.740, 0.610, 0.120, np.nan, np.nan),
    "gaussian-full": (64, 0.900, 0.260, 0.080, np.nan, np.nan),
    "training-noise": (64, 0.981, 0.075, 0.022, 2.1, 0.93),
}


def make_networks() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    tables = []
    for source, (count, accuracy, nll, ece, distance, overlap) in SOURCES.items():
        noise = generator.normal(size=(6, count))
        table = {
            "source": source,
            "network": np.arange(count),
            "accuracy": np.clip(accuracy + 0.3 * (1 - accuracy) * noise[0], 0, 1),
            "nll": nll * np.exp(0.3 * noise[1]),
            "ece": ece * np.exp(0.2 * noise[2]),
            "brier": nll / 2 * np.exp(0.2 * noise[3]),
            "nearest_distance": distance + 0.3 * noise[4],
            "error_overlap": np.clip(overlap + 0.05 * noise[5], 0, 1),
            "largest_error_overlap": np.clip(overlap + 0.2 + 0.05 * noise[5], 0, 1),
        }
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True)


def make_groups() -> pd.DataFrame:
    rows = []
    for source, (count, accuracy, nll, ece, distance, overlap) in SOURCES.items():
        single = count == 1
        rows.append(
            {
                "source": source,
                "networks": count,
                "novelty_networks": count,
                "accuracy_mean": accuracy,
                "accuracy_std": 0.0 if single else 0.02,
                "nll_mean": nll,
                "nll_std": 0.0 if single else 0.046,
                "ece_mean": ece,
                "brier_mean": nll / 2,
                "bma_accuracy": min(1.0, accuracy + 0.01),
                "bma_nll": nll * 0.8,
                "bma_ece": ece * 0.7,
                "bma_brier": nll * 0.4,
                "diversity": np.nan if single else nll / 10,
                "variance_ratio": {"samples": 1.04, "zoo": 1.0, "gaussian-diagonal": 0.99, "training-noise": 1.25}.get(
                    source, np.nan
                ),
                "mean_shift": {"samples": 0.05, "held-out": 0.04}.get(source, np.nan),
                "nearest_distance_mean": distance,
                "nearest_distance_std": np.nan if single else 0.3,
                "nearest_distance_error": np.nan if single else 0.3 / np.sqrt(count),
                "nearest_distance_min": distance - 0.7,
                "copying_ratio": {"samples": 1.001, "training-noise": 0.89}.get(source, np.nan),
                "copying_ratio_error": {"samples": 0.0021, "training-noise": 0.004}.get(source, np.nan),
                "detectable_by_ratio": {"samples": 0.321}.get(source, np.nan),
                "error_overlap_mean": overlap,
                "largest_error_overlap_mean": min(1.0, overlap + 0.2),
                "diversity_error": np.nan if single else nll / 200,
                "variance_ratio_error": {"samples": 0.013}.get(source, np.nan),
                "error_overlap_error": 0.02,
                "largest_error_overlap_error": 0.025,
                **{f"{kind}{score}_error": 0.011 for kind in ("", "bma_") for score in ("accuracy", "nll", "ece", "brier")},
            }
        )
    return pd.DataFrame(rows)


def make_moments() -> pd.DataFrame:
    rows = [
        {"source": source, "tensor": tensor, "shift": shift, "spread": spread}
        for source, shift in (("samples", 0.05), ("zoo", 0.02), ("held-out", 0.04))
        for tensor, spread in (("linear1.weight", 1.01), ("log_scale", 0.9))
    ]
    return pd.DataFrame(rows)


def make_parts() -> pd.DataFrame:
    rows = []
    for source, (count, accuracy, nll, *_) in SOURCES.items():
        quality = {"accuracy": accuracy, "nll": nll}
        errors = {f"{name}_error_{over}": 0.01 for name in quality for over in ("networks", "examples")}
        known = {"source": source, "networks": count, "examples": 60, **quality, **errors}
        rows += [{**known, "part": part} for part in ("train", "validation", "test")]
    return pd.DataFrame(rows)


def make_reliability() -> pd.DataFrame:
    rows = [(0.7, 0.6, 0.25), (0.9, 0.95, 0.75)]
    parts = [pd.DataFrame(rows, columns=["confidence", "accuracy", "share"]).assign(source=source) for source in SOURCES]
    return pd.concat(parts, ignore_index=True)


def make_pictures() -> pd.DataFrame:
    """Three networks of a first layer of four 2 × 2 images and a second one of two rows."""
    shapes = {"linear1.weight": (4, 1, 2, 2), "linear2.weight": (2, 1, 1, 4)}
    tables = []
    for scale, name in enumerate(("zoo", "sample", "nearest"), 1):
        for tensor, shape in shapes.items():
            places = np.indices(shape).reshape(4, -1).T
            table = pd.DataFrame(places, columns=["unit", "channel", "y", "x"])
            value = scale * (np.arange(len(table)) - 7.5)
            tables.append(table.assign(network=name, distance=float(scale), tensor=tensor, value=value))
    return pd.concat(tables, ignore_index=True)


def make_barriers(count: int = 24) -> pd.DataFrame:
    generator = np.random.default_rng(1)
    tables = []
    for stage, level in (("unaligned", 0.238), ("aligned", 0.062)):
        excess = level * np.exp(0.3 * generator.normal(size=(count, count)))
        excess = (excess + excess.T) / 2
        np.fill_diagonal(excess, 0)
        i, j = np.indices((count, count)).reshape(2, -1)
        table = {
            "stage": stage,
            "i": i,
            "j": j,
            "midpoint": excess.ravel() + 0.07,
            "excess": excess.ravel(),
            "maximal": excess.ravel(),
        }
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True)


def make_curve() -> pd.DataFrame:
    rows = [
        {
            "steps": steps,
            "guidance": guidance,
            "accuracy_mean": 0.97 - 0.3 / steps + guidance / 10,
            "accuracy_std": 0.02,
            "nll_mean": 0.1 + 1 / steps - guidance / 5,
            "nll_std": 0.04,
        }
        for guidance in (0.0, 0.1)
        for steps in (8, 16, 32, 64)
    ]
    return pd.DataFrame(rows)


def make_history(count: int = 400) -> pd.DataFrame:
    iteration = 10 * np.arange(1, count + 1)
    loss = 0.4 + np.exp(-iteration / 500) + 0.03 * np.random.default_rng(2).normal(size=count)
    validation = np.where(np.arange(count) % 20 == 19, 0.45 + np.exp(-iteration / 500) + iteration / 40_000, np.nan)
    rate = 1e-3 * np.minimum(iteration / 200, 0.5 * (1 + np.cos(np.pi * iteration / iteration[-1])))
    return pd.DataFrame(
        {
            "iteration": iteration,
            "seconds": iteration / 20,
            "loss": loss,
            "validation_loss": validation,
            "learning_rate": rate,
        }
    )


@pytest.fixture
def make_run() -> Callable[..., ReportData]:
    """A function that makes a run; keyword arguments replace its tables."""

    def make(**changes: Any) -> ReportData:
        stages = {
            "stage": ["train-zoo", "align", "train-flow", "sample", "evaluate"],
            "seconds": [12.3, 0.8, 301.5, 4.2, 41.0],
        }
        tables = {
            "networks": make_networks(),
            "groups": make_groups(),
            "moments": make_moments(),
            "parts": make_parts(),
            "reliability": make_reliability(),
            "pictures": make_pictures(),
            "barriers": make_barriers(),
            "curve": make_curve(),
            "history": make_history(),
            "stages": pd.DataFrame(stages),
            "settings": {
                "task": "wdbc",
                "zoo": {"widths": [16, 16], "learning_rate": 1e-3},
                "flow": {"geometry": "euclidean"},
            },
            "facts": {
                "task": "wdbc",
                "geometry": "euclidean",
                "coupling": "independent",
                "velocity_parameters": 1_234_567,
                "provenance": {"commit": "e095643", "source": "https://example.org/a|b_c_d"},
            },
        }
        return ReportData(**{**tables, **changes})

    return make


@pytest.fixture
def run(make_run: Callable[..., ReportData]) -> ReportData:
    return make_run()


@pytest.fixture
def change_group(make_run: Callable[..., ReportData]) -> Callable[..., ReportData]:
    """A function that makes a run in which one source's numbers are others."""

    def change(source: str, **values: float) -> ReportData:
        groups = make_run().groups
        for column, value in values.items():
            groups.loc[groups["source"] == source, column] = value
        return make_run(groups=groups)

    return change
