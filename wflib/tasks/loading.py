"""Where tasks come from: one function a task, registered by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from wflib.tasks.images import fetch_images, read_idx
from wflib.tasks.tasks import Dataset, Split, no_examples

__all__ = ["TASKS", "load_diabetes", "load_digits", "load_images", "load_wdbc"]

VALIDATION_IMAGES = 5000


def load_wdbc() -> Dataset:
    """UCI Wisconsin Breast Cancer Diagnostic, as shipped with scikit-learn: 455 / 57 / 57 examples, 30 features."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    inputs, targets = load_breast_cancer(return_X_y=True)
    x_train, x_rest, y_train, y_rest = train_test_split(inputs, targets, train_size=0.8, random_state=42)
    x_validation, x_test, y_validation, y_test = train_test_split(x_rest, y_rest, test_size=0.5, random_state=42)
    scaler = StandardScaler().fit(x_train)

    def split(x, y) -> Split:
        return Split(torch.tensor(scaler.transform(x), dtype=torch.float32), torch.tensor(y, dtype=torch.int64))

    return Dataset(
        "wdbc", "classification", 2, split(x_train, y_train), split(x_validation, y_validation), split(x_test, y_test)
    )


def load_diabetes() -> Dataset:
    """Progression of diabetes after a year, as shipped with scikit-learn: 353 / 44 / 45 examples, 10 features.

    Inputs and the target are standardized by the training part's means and deviations.
    """
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    inputs, targets = load_diabetes(return_X_y=True)
    x_train, x_rest, y_train, y_rest = train_test_split(inputs, targets[:, None], train_size=0.8, random_state=42)
    x_validation, x_test, y_validation, y_test = train_test_split(x_rest, y_rest, test_size=0.5, random_state=42)
    scalers = StandardScaler().fit(x_train), StandardScaler().fit(y_train)

    def split(*parts) -> Split:
        both = zip(scalers, parts, strict=True)
        return Split(*(torch.tensor(scaler.transform(part), dtype=torch.float32) for scaler, part in both))

    return Dataset(
        "diabetes", "regression", 1, split(x_train, y_train), split(x_validation, y_validation), split(x_test, y_test)
    )


def load_digits() -> Dataset:
    """Handwritten digits as shipped with scikit-learn: 1,437 / 180 / 180 images (1, 8, 8), standardized as MNIST's.

    Every part has the same shares of classes.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    x_train, x_rest, y_train, y_rest = train_test_split(images, labels, train_size=0.8, random_state=42, stratify=labels)
    x_validation, x_test, y_validation, y_test = train_test_split(
        x_rest, y_rest, test_size=0.5, random_state=42, stratify=y_rest
    )
    mean, deviation = float(x_train.mean()), float(x_train.std())

    def split(x, y) -> Split:
        inputs = torch.tensor((x - mean) / deviation, dtype=torch.float32).view(-1, 1, 8, 8)
        return Split(inputs, torch.tensor(y, dtype=torch.int64))

    return Dataset(
        "digits", "classification", 10, split(x_train, y_train), split(x_validation, y_validation), split(x_test, y_test)
    )


def load_images(task: str) -> Dataset:
    """MNIST or Fashion-MNIST: 55,000 / 5,000 / 10,000 images of 784 pixels, standardized by one mean and deviation for all.

    The validation part is the last 5,000 of the 60,000 training images. Pixels share their statistics: dead ones would have
    a deviation of zero.

    Args:
        task: ``mnist`` or ``fashion-mnist``.

    Raises:
        OSError: No source has the files.
    """
    files = fetch_images(task)
    images = {part: read_idx(files[f"{part}-images-idx3-ubyte"]).reshape(-1, 784) for part in ("train", "t10k")}
    labels = {part: read_idx(files[f"{part}-labels-idx1-ubyte"]) for part in ("train", "t10k")}
    training = images["train"][:-VALIDATION_IMAGES] / 255
    mean, deviation = float(training.mean()), float(training.std())

    def split(part: str, where: slice) -> Split:
        inputs = torch.tensor(images[part][where], dtype=torch.float32).div(255).sub(mean).div(deviation)
        return Split(inputs, torch.tensor(labels[part][where], dtype=torch.int64))

    return Dataset(
        task,
        "classification",
        10,
        split("train", slice(None, -VALIDATION_IMAGES)),
        split("train", slice(-VALIDATION_IMAGES, None)),
        split("t10k", slice(None)),
    )


TASKS: dict[str, Callable[[], Dataset]] = {
    "none": no_examples,
    "gaussian": partial(no_examples, (30,), "gaussian", 2),
    "wdbc": load_wdbc,
    "diabetes": load_diabetes,
    "digits": load_digits,
    "mnist": partial(load_images, "mnist"),
    "fashion-mnist": partial(load_images, "fashion-mnist"),
}
"""Task name → function that loads its data."""
