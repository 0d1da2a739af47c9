"""Where tasks come from: one function a task, registered by name, and the split of their examples into parts.

A function that takes ``split`` splits by that seed: training, validation and test part where nobody has published a test
part, else training and validation part.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from wflib.rng import generator
from wflib.tasks.checks import check_dataset
from wflib.tasks.images import fetch_images, read_idx
from wflib.tasks.tasks import Dataset, Split, no_examples

__all__ = ["TASKS", "USUAL_SPLIT", "fetch_dataset", "load_diabetes", "load_digits", "load_images", "load_wdbc"]

VALIDATION_IMAGES = 5000
USUAL_SPLIT = 42
"""Seed of the parts that a task has where nothing else is asked for."""


def fetch_dataset(task: str, split: int = USUAL_SPLIT) -> Dataset:
    """A task's data, its examples split into parts by a seed.

    Args:
        task: A name in ``TASKS``.
        split: Setting ``data.split``.

    Raises:
        ValueError: No such task, one whose parts are fixed, or whose examples cannot be learned; says why.
    """
    if task not in TASKS:
        raise ValueError(f"task: {task}: expected one of {', '.join(TASKS)}.")
    if split != USUAL_SPLIT and "split" not in inspect.signature(TASKS[task]).parameters:
        raise ValueError(
            f"data.split: {split}: the parts of task {task} are fixed; expected {USUAL_SPLIT}, or a function in TASKS that "
            "takes split."
        )
    dataset = TASKS[task]() if split == USUAL_SPLIT else TASKS[task](split=split)
    check_dataset(dataset, f"task: {task}")
    return dataset


def load_wdbc(split: int = USUAL_SPLIT) -> Dataset:
    """UCI Wisconsin Breast Cancer Diagnostic, as shipped with scikit-learn: 455 / 57 / 57 examples, 30 features."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    inputs, targets = load_breast_cancer(return_X_y=True)
    x_train, x_rest, y_train, y_rest = train_test_split(inputs, targets, train_size=0.8, random_state=split)
    x_validation, x_test, y_validation, y_test = train_test_split(x_rest, y_rest, test_size=0.5, random_state=split)
    scaler = StandardScaler().fit(x_train)

    def part(x: np.ndarray, y: np.ndarray) -> Split:
        return Split(torch.tensor(scaler.transform(x), dtype=torch.float32), torch.tensor(y, dtype=torch.int64))

    return Dataset(
        "wdbc", "classification", 2, part(x_train, y_train), part(x_validation, y_validation), part(x_test, y_test)
    )


def load_diabetes(split: int = USUAL_SPLIT) -> Dataset:
    """Progression of diabetes after a year, as shipped with scikit-learn: 353 / 44 / 45 examples, 10 features.

    Inputs and the target are standardized by the training part's means and deviations.
    """
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    inputs, targets = load_diabetes(return_X_y=True)
    x_train, x_rest, y_train, y_rest = train_test_split(inputs, targets[:, None], train_size=0.8, random_state=split)
    x_validation, x_test, y_validation, y_test = train_test_split(x_rest, y_rest, test_size=0.5, random_state=split)
    scalers = StandardScaler().fit(x_train), StandardScaler().fit(y_train)

    def part(*values: np.ndarray) -> Split:
        both = zip(scalers, values, strict=True)
        return Split(*(torch.tensor(scaler.transform(one), dtype=torch.float32) for scaler, one in both))

    return Dataset(
        "diabetes", "regression", 1, part(x_train, y_train), part(x_validation, y_validation), part(x_test, y_test)
    )


def load_digits(split: int = USUAL_SPLIT) -> Dataset:
    """Handwritten digits as shipped with scikit-learn: 1,437 / 180 / 180 images (1, 8, 8), standardized as MNIST's.

    Every part has the same shares of classes.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    x_train, x_rest, y_train, y_rest = train_test_split(images, labels, train_size=0.8, random_state=split, stratify=labels)
    x_validation, x_test, y_validation, y_test = train_test_split(
        x_rest, y_rest, test_size=0.5, random_state=split, stratify=y_rest
    )
    mean, deviation = float(x_train.mean()), float(x_train.std())

    def part(x: np.ndarray, y: np.ndarray) -> Split:
        inputs = torch.tensor((x - mean) / deviation, dtype=torch.float32).view(-1, 1, 8, 8)
        return Split(inputs, torch.tensor(y, dtype=torch.int64))

    return Dataset(
        "digits", "classification", 10, part(x_train, y_train), part(x_validation, y_validation), part(x_test, y_test)
    )


def load_images(task: str, split: int = USUAL_SPLIT) -> Dataset:
    """MNIST or Fashion-MNIST: 55,000 / 5,000 / 10,000 images of 784 pixels, standardized by one mean and deviation for all.

    The validation part is the last 5,000 of the 60,000 training images, or with another split than the usual one a random
    5,000 of them; the test part is the published one. Pixels share their statistics: dead ones would have a deviation of
    zero.

    Args:
        task: ``mnist`` or ``fashion-mnist``.
        split: Which training images are for validation.

    Raises:
        OSError: No source has the files.
    """
    files = fetch_images(task)
    images = {part: read_idx(files[f"{part}-images-idx3-ubyte"]).reshape(-1, 784) for part in ("train", "t10k")}
    labels = {part: read_idx(files[f"{part}-labels-idx1-ubyte"]) for part in ("train", "t10k")}
    if split != USUAL_SPLIT:
        order = torch.randperm(len(images["train"]), generator=generator(split, "tasks", "images")).numpy()
        images["train"], labels["train"] = images["train"][order], labels["train"][order]
    training = images["train"][:-VALIDATION_IMAGES] / 255
    mean, deviation = float(training.mean()), float(training.std())

    def part_of(part: str, where: slice) -> Split:
        inputs = torch.tensor(images[part][where], dtype=torch.float32).div(255).sub(mean).div(deviation)
        return Split(inputs, torch.tensor(labels[part][where], dtype=torch.int64))

    return Dataset(
        task,
        "classification",
        10,
        part_of("train", slice(None, -VALIDATION_IMAGES)),
        part_of("train", slice(-VALIDATION_IMAGES, None)),
        part_of("t10k", slice(None)),
    )


TASKS: dict[str, Callable[..., Dataset]] = {
    "none": no_examples,
    "gaussian": partial(no_examples, (30,), "gaussian", 2),
    "wdbc": load_wdbc,
    "diabetes": load_diabetes,
    "digits": load_digits,
    "mnist": partial(load_images, "mnist"),
    "fashion-mnist": partial(load_images, "fashion-mnist"),
}
"""Task name → function that loads its data, without arguments or by the seed ``split``."""
