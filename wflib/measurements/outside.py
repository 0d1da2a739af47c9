"""What averages of networks know of what they do not know: inputs of another kind, and tables of a model's averages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from wflib.config import Section
from wflib.evaluation import AVERAGED, average_scores, bayesian_model_average
from wflib.measurements.measurement import Inputs, Measurement, Tables
from wflib.networks import Networks, predict
from wflib.rng import generator
from wflib.storage import ArtifactError, load_artifact, save_artifact
from wflib.tasks import Dataset, load_dataset, outside_inputs

__all__ = ["OUTSIDE", "read_outside", "uncertainty_tables"]

COUNTS = (*AVERAGED, 200)
PREDICTED = 2000
"""Most test examples whose averaged predictions are kept, for pages to compare models by."""


def make_outside(inputs: Inputs, options: Section) -> Tables:
    """Inputs of another kind than a task's: outside.safetensors in the cell's folder, for the measurement model.

    Permuted features of the test part and, for MNIST and Fashion-MNIST, images of the other.
    """
    dataset = load_dataset(inputs.path("data"))
    found = outside_inputs(dataset, generator(0, "audit", "outside"))
    save_artifact(inputs.out / "outside.safetensors", "outside", found, {"task": dataset.task})
    return {"rows": pd.DataFrame([{"kind": name, "inputs": len(kind)} for name, kind in found.items()])}


def read_outside(path: Path, dataset: Dataset) -> Mapping[str, Tensor]:
    """Inputs of another kind, in the shape of a dataset's.

    Raises:
        ArtifactError: A damaged file, or one made for another task.
    """
    tensors, metadata = load_artifact(path, "outside", stage="outside")
    if metadata.get("task") != dataset.task:
        raise ArtifactError(
            f"{path}: expected inputs beside those of {dataset.task}, found them made for {metadata.get('task')}; run "
            "the cell outside with the dataset of this one."
        )
    return {name: kind.reshape(-1, *dataset.inputs) for name, kind in tensors.items()}


def uncertainty_tables(
    networks: Networks,
    dataset: Dataset,
    outside: Mapping[str, Tensor],
    facts: Mapping[str, object],
    bins: int,
    random: torch.Generator,
) -> Tables:
    """On the test part: what averages of 1, 2, … networks are worth, and what the average of all predicts.

    Args:
        networks: A model's draws.
        dataset: In the networks' shape.
        outside: From :func:`read_outside`.
        facts: Columns that rows begin with.
        bins: Of confidences.
        random: Chooses the networks of an average.
    """
    scores = average_scores(networks, dataset.test, outside, random, bins, COUNTS)
    average = bayesian_model_average(predict(networks, dataset.test.inputs[:PREDICTED])).cpu()
    columns = {f"log_probability_{label}": values for label, values in enumerate(average.double().T.numpy())}
    predictions = pd.DataFrame({"example": range(len(average)), **columns})
    return {name: table.assign(**facts) for name, table in (("averages", scores), ("predictions", predictions))}


OUTSIDE = Measurement("outside", make_outside, reads=("data",))
