"""Files of datasets: what is written is checked first, so that whoever reads it finds what it says."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from wflib.storage import ArtifactError, load_artifact, rerun, save_artifact
from wflib.tasks.checks import PARTS, check_dataset, dataset_fault
from wflib.tasks.tasks import WITHOUT_EXAMPLES, Dataset, Split, no_examples

__all__ = ["load_dataset", "save_dataset"]


def save_dataset(path: str | Path, dataset: Dataset) -> None:
    """Write a dataset artifact.

    Args:
        path: File to write.
        dataset: What :func:`load_dataset` shall give back.

    Raises:
        ValueError: It is none that networks could learn, see :func:`~wflib.tasks.check_dataset`; nothing is written.
    """
    check_dataset(dataset, f"{path}")
    tensors: dict[str, Tensor] = {}
    for part in PARTS:
        split: Split = getattr(dataset, part)
        tensors |= {f"{part}.inputs": split.inputs, f"{part}.targets": split.targets}
    save_artifact(
        path, "dataset", tensors, {"task": dataset.task, "task_type": dataset.task_type, "outputs": dataset.outputs}
    )


def load_dataset(path: str | Path) -> Dataset:
    """Read a dataset artifact.

    Raises:
        ArtifactError: The file is damaged, or its parts do not belong together.
    """
    tensors, metadata = load_artifact(path, "dataset", stage="fetch-data")
    tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    try:
        splits = {part: Split(tensors[f"{part}.inputs"], tensors[f"{part}.targets"]) for part in PARTS}
        task, task_type, outputs = (metadata[key] for key in ("task", "task_type", "outputs"))
    except KeyError as error:
        names = sorted([*tensors, *metadata])
        raise ArtifactError(f"{path}: expected {error}, found {names}; {rerun('fetch-data')}.") from error
    if task in WITHOUT_EXAMPLES:
        return no_examples(tuple(splits["train"].inputs.shape[1:]), task, outputs, task_type)
    dataset = Dataset(task, task_type, outputs, **splits)
    if fault := dataset_fault(dataset):
        raise ArtifactError(f"{path}: {fault[0]}; {rerun('fetch-data')}.")
    return dataset
