"""Tasks: three parts that share nothing, standardized by the first, and a file that keeps them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from wflib.architecture import cnn, mlp
from wflib.rng import generator
from wflib.storage import ArtifactError, load_artifact, save_artifact
from wflib.tasks import TASKS, Dataset, Split, check_dataset, fetch_dataset, load_dataset, save_dataset
from wflib.tasks.loading import load_images

PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def wdbc() -> Dataset:
    return TASKS["wdbc"]()


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return TASKS["digits"]()


def rows(split: Split) -> set[tuple[float, ...]]:
    return {tuple(row) for row in split.inputs.flatten(1).tolist()}


def equal(a: Dataset, b: Dataset) -> bool:
    tensors = all(
        torch.equal(getattr(getattr(a, part), name), getattr(getattr(b, part), name))
        for part in PARTS
        for name in ("inputs", "targets")
    )
    return tensors and (a.task, a.task_type, a.outputs) == (b.task, b.task_type, b.outputs)


def test_wdbc_is_what_it_says(wdbc):
    assert [len(getattr(wdbc, part).inputs) for part in PARTS] == [455, 57, 57]
    assert (wdbc.task, wdbc.task_type, wdbc.outputs, wdbc.features) == ("wdbc", "classification", 2, 30)
    for part in PARTS:
        split = getattr(wdbc, part)
        assert (split.inputs.dtype, split.targets.dtype) == (torch.float32, torch.int64)
        assert split.targets.unique().tolist() == [0, 1]


def test_digits_are_images_with_the_same_classes_in_every_part(digits):
    assert [len(getattr(digits, part).inputs) for part in PARTS] == [1437, 180, 180]
    assert (digits.task, digits.task_type, digits.outputs) == ("digits", "classification", 10)
    assert (digits.inputs, digits.features) == ((1, 8, 8), 64)
    parts = [rows(getattr(digits, part)) for part in PARTS]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 1797
    shares = [torch.bincount(getattr(digits, part).targets) / len(getattr(digits, part).targets) for part in PARTS]
    assert float((torch.stack(shares) - shares[0]).abs().max()) < 0.006
    assert abs(float(digits.train.inputs.mean())) < 1e-5
    assert abs(float(digits.train.inputs.std(correction=0)) - 1) < 1e-5
    assert abs(float(digits.validation.inputs.mean())) > 1e-5
    assert equal(digits, TASKS["digits"]())


def test_examples_come_in_the_shape_that_networks_take(wdbc, digits):
    for inputs, architecture in (((64,), mlp([64, 10])), ((1, 8, 8), cnn((1, 8, 8), [2], 10))):
        shaped = digits.for_networks(architecture, "here")
        assert shaped.inputs == inputs
        assert torch.equal(shaped.test.inputs.flatten(1), digits.test.inputs.flatten(1))
        assert shaped.for_networks(architecture, "here") is shaped
    flat = digits.shaped((64,))
    assert equal(flat.for_networks(cnn((1, 8, 8), [2], 10), "here"), digits)
    assert digits.images().inputs == replace(digits.shaped((64,)), task="digits").shaped((1, 8, 8)).images().inputs
    for architecture, found in (
        (mlp([63, 10]), "such of 63 inputs, 10 outputs"),
        (mlp([64, 9]), "such of 64 inputs, 9 outputs"),
        (mlp([64, 10], task_type="regression"), "10 outputs, regression"),
        (cnn((1, 16, 4), [2], 10), "1 × 16 × 4 inputs"),
    ):
        with pytest.raises(ValueError, match=rf"here: expected networks for digits \(1 × 8 × 8 inputs.*{found}"):
            digits.for_networks(architecture, "here")
    with pytest.raises(ValueError, match=r"wdbc: expected images .* found examples \(30,\); choose zoo.network: mlp"):
        wdbc.images()
    with pytest.raises(ValueError, match=r"expected 64 numbers an example of digits, got \(3, 3\)"):
        digits.shaped((3, 3))
    mnist = Dataset("mnist", "classification", 10, *(Split(torch.zeros(2, 784), torch.tensor([0, 1])),) * 3)
    assert mnist.images().inputs == (1, 28, 28)


def test_no_example_is_in_two_parts(wdbc):
    train, validation, test = (rows(getattr(wdbc, part)) for part in PARTS)
    assert len(train) + len(validation) + len(test) == 569
    assert not (train & validation)
    assert not (train & test)
    assert not (validation & test)
    assert rows(Split(wdbc.test.inputs[:3], wdbc.test.targets[:3])) & test


def test_inputs_are_standardized_by_the_training_part_alone(wdbc):
    means = {part: float(getattr(wdbc, part).inputs.mean(0).abs().max()) for part in PARTS}
    spreads = {part: float((getattr(wdbc, part).inputs.std(0, correction=0) - 1).abs().max()) for part in PARTS}
    assert means["train"] < 1e-5
    assert spreads["train"] < 1e-5
    assert min(means["validation"], means["test"], spreads["validation"], spreads["test"]) > 0.05


def test_the_split_is_always_the_same(wdbc):
    assert equal(wdbc, TASKS["wdbc"]())
    assert not equal(wdbc, replace(wdbc, train=wdbc.test))


@pytest.mark.parametrize("task", ["wdbc", "digits", "diabetes"])
def test_another_split_gives_other_parts_of_the_same_sizes(task):
    usual, other = TASKS[task](), fetch_dataset(task, 1)
    assert equal(fetch_dataset(task), usual)
    assert equal(fetch_dataset(task, 42), usual)
    assert equal(fetch_dataset(task, 1), other)
    for part in PARTS:
        assert getattr(other, part).inputs.shape == getattr(usual, part).inputs.shape
        assert getattr(other, part).targets.shape == getattr(usual, part).targets.shape
        assert not torch.equal(getattr(other, part).targets, getattr(usual, part).targets)
    parts = [rows(getattr(other, part)) for part in PARTS]
    assert len(set.union(*parts)) == sum(map(len, parts))
    assert abs(float(other.train.inputs.mean())) < 1e-5  # standardized by its own training part
    assert not equal(fetch_dataset(task, 2), other)


@pytest.fixture
def images(tmp_path, monkeypatch) -> Path:
    """A store of 5,300 training and 20 test images whose pixels say which they are."""
    for part, count in (("train", 5300), ("t10k", 20)):
        pixels = torch.zeros(count, 28, 28, dtype=torch.uint8)
        for place in range(2):
            pixels[:, 0, place] = torch.arange(count) // 256**place % 256
        for name, header, data in (
            ("images-idx3", (count, 28, 28), pixels),
            ("labels-idx1", (count,), torch.arange(count) % 10),
        ):
            content = bytes([0, 0, 8, len(header)]) + b"".join(size.to_bytes(4, "big") for size in header)
            (tmp_path / f"{part}-{name}-ubyte").write_bytes(content + data.byte().numpy().tobytes())
    monkeypatch.setattr("wflib.tasks.loading.fetch_images", lambda task: {one.name: one for one in tmp_path.iterdir()})
    return tmp_path


def numbers(split: Split, dataset: Dataset) -> set[int]:
    """Which images a part has."""
    low, high = dataset.train.inputs.min(), dataset.train.inputs.max()
    pixels = ((split.inputs[:, :2] - low) / (high - low) * 255).round().long()
    return set((pixels[:, 0] + 256 * pixels[:, 1]).tolist())


def test_published_test_images_stay_and_others_are_for_validation(images):
    usual, other = load_images("mnist"), load_images("mnist", 1)
    assert numbers(usual.validation, usual) == set(range(300, 5300))
    for dataset in (usual, other):
        assert numbers(dataset.train, dataset) | numbers(dataset.validation, dataset) == set(range(5300))
        assert len(dataset.train.inputs) == len(numbers(dataset.train, dataset)) == 300
        assert numbers(dataset.test, dataset) == set(range(20))
        assert torch.equal(dataset.test.targets, torch.arange(20) % 10)
        first = sorted(numbers(dataset.train, dataset))
        assert sorted(dataset.train.targets.tolist()) == sorted(number % 10 for number in first)  # labels go along
    assert numbers(other.train, other) != numbers(usual.train, usual)
    assert equal(load_images("mnist", 1), other)
    assert not equal(load_images("mnist", 2), other)


@pytest.mark.parametrize("task", ["none", "gaussian"])
def test_parts_that_are_fixed_are_split_in_no_other_way(task):
    assert equal(fetch_dataset(task, 42), TASKS[task]())
    with pytest.raises(ValueError, match=rf"^data\.split: 1: the parts of task {task} are fixed; expected 42"):
        fetch_dataset(task, 1)
    with pytest.raises(ValueError, match=r"^task: rings: expected one of none"):
        fetch_dataset("rings")


def test_round_trip(tmp_path, wdbc, digits):
    for data in (digits, wdbc):
        save_dataset(tmp_path / "data.safetensors", data)
        assert equal(load_dataset(tmp_path / "data.safetensors"), data)
    assert not equal(load_dataset(tmp_path / "data.safetensors"), replace(wdbc, outputs=3))


def test_parts_that_share_memory_make_a_round_trip(tmp_path):
    split = Split(torch.arange(6.0).view(3, 2), torch.tensor([0, 1, 0]))
    shared = Dataset("toy", "classification", 2, split, split, Split(split.inputs[1:], split.targets[1:]))
    save_dataset(tmp_path / "data.safetensors", shared)
    assert equal(load_dataset(tmp_path / "data.safetensors"), shared)


def test_examples_are_known_again_in_any_shape_and_no_others_are(digits):
    known = digits.train.fingerprint
    assert Split(digits.train.inputs.flatten(1), digits.train.targets.clone()).fingerprint == known
    others = [digits.train[:-1], digits.train[torch.arange(len(digits.train.targets)).flip(0)], digits.test]
    assert known not in {other.fingerprint for other in others}
    relabelled = digits.train.targets.clone()
    relabelled[0] += 1
    assert Split(digits.train.inputs, relabelled).fingerprint != known


def test_a_split_moves_with_both_halves(wdbc):
    moved = wdbc.test.to("meta")
    assert moved.inputs.device.type == moved.targets.device.type == "meta"
    assert wdbc.test.inputs.device.type == "cpu"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t, m: t.pop("test.targets"), "expected 'test.targets'"),
        (lambda t, m: t.update({"test.targets": torch.zeros(3)}), r"test targets expected .* \(57,\) .* found \(3,\)"),
        (lambda t, m: t.update({"train.inputs": torch.zeros(455)}), r"train inputs expected .* found \(455,\)"),
        (
            lambda t, m: t.update({"train.inputs": torch.zeros(0, 30), "train.targets": torch.zeros(0)}),
            r"train inputs expected .* one example at least, found \(0, 30\)",
        ),
        (
            lambda t, m: t.update({"test.inputs": torch.zeros(57, 1, 5, 6)}),
            "test inputs expected 30 features as train, found 1 × 5 × 6 features",
        ),
        (lambda t, m: m.pop("outputs"), "expected 'outputs'"),
        (lambda t, m: m.pop("task"), "expected 'task'"),
    ],
)
def test_a_dataset_whose_parts_do_not_fit_is_refused(tmp_path, wdbc, spoil, message):
    path = tmp_path / "data.safetensors"
    save_dataset(path, wdbc)
    tensors, metadata = load_artifact(path, "dataset", stage="fetch-data")
    spoil(tensors, metadata)
    save_artifact(path, "dataset", tensors, metadata)
    with pytest.raises(ArtifactError, match=message) as caught:
        load_dataset(path)
    assert str(path) in str(caught.value)
    assert "fetch-data" in str(caught.value)


def test_a_zoo_is_no_dataset(tmp_path):
    save_artifact(tmp_path / "x.safetensors", "zoo", {}, {})
    with pytest.raises(ArtifactError, match="expected a dataset artifact, found a zoo one"):
        load_dataset(tmp_path / "x.safetensors")


def test_diabetes_is_a_regression_with_a_standardized_target(tmp_path):
    diabetes = TASKS["diabetes"]()
    assert [len(getattr(diabetes, part).inputs) for part in PARTS] == [353, 44, 45]
    assert (diabetes.task, diabetes.task_type, diabetes.outputs, diabetes.features) == ("diabetes", "regression", 1, 10)
    assert diabetes.train.targets.shape == (353, 1)
    for tensor in (diabetes.train.inputs, diabetes.train.targets):
        torch.testing.assert_close(tensor.mean(0), torch.zeros(tensor.shape[1]), atol=1e-5, rtol=0)
        torch.testing.assert_close(tensor.std(0, correction=0), torch.ones(tensor.shape[1]))
    assert abs(float(diabetes.test.targets.mean())) > 1e-5
    assert diabetes.has_examples
    assert not diabetes.has_classes
    save_dataset(tmp_path / "a", diabetes)
    assert equal(load_dataset(tmp_path / "a"), diabetes)


@pytest.mark.parametrize(("task", "inputs"), [("none", (0,)), ("gaussian", (30,))])
def test_tasks_without_examples_come_back_as_they_were(task, inputs, tmp_path):
    dataset = TASKS[task]()
    assert (dataset.inputs, dataset.has_examples, dataset.has_classes) == (inputs, False, False)
    save_dataset(tmp_path / "a", dataset)
    assert equal(load_dataset(tmp_path / "a"), dataset)
    shaped = dataset.for_networks(mlp([30, 4, 2]), "test")
    assert (shaped.task, shaped.inputs, shaped.outputs) == (task, (30,), 2)


@pytest.mark.parametrize(("examples", "expected"), [(600, 512), (57, 57)])
def test_functions_are_compared_on_examples_that_are_not_too_many(examples, expected):
    part = Split(torch.arange(3.0 * examples).view(examples, 3), torch.zeros(examples, dtype=torch.int64))
    probes = Dataset("toy", "classification", 2, part, part, part).probes(mlp([3, 4, 2]))
    assert torch.equal(probes, part.inputs[:expected])


def test_some_examples_are_random_ones_none_twice_and_all_at_most():
    split = Split(torch.arange(20.0)[:, None], torch.arange(20))
    few, again, other = (split.some(8, generator(seed, "some")) for seed in (0, 0, 1))
    assert len(few.targets.unique()) == 8
    assert torch.equal(few.inputs[:, 0].long(), few.targets)
    assert torch.equal(few.targets, again.targets)
    assert not torch.equal(few.targets, other.targets)
    assert torch.equal(split.some(30, generator(0, "some")).targets.sort().values, split.targets)


def changed(dataset: Dataset, part: str, **values) -> Dataset:
    return replace(dataset, **{part: replace(getattr(dataset, part), **values)})


BAD: dict[str, tuple[Callable[[Dataset], object], str]] = {
    "no dataset": (lambda d: d.train, "expected a Dataset, found a Split; make one"),
    "kind": (lambda d: replace(d, task_type="ranking"), "task_type expected classification or regression, found 'ranking'"),
    "one class": (lambda d: replace(d, outputs=1), "outputs of a classification expected an int of 2 at least, found 1"),
    "no split": (lambda d: replace(d, test=(1, 2)), "test expected a Split, found a tuple"),
    "arrays": (lambda d: changed(d, "train", inputs=d.train.inputs.numpy()), r"found a ndarray; .*torch.from_numpy"),
    "lists": (lambda d: changed(d, "test", targets=d.test.targets.tolist()), r"test targets .*found a list; .*torch.tensor"),
    "integers": (lambda d: changed(d, "train", inputs=d.train.inputs.long()), r"found torch.int64; .*inputs.float\(\)"),
    "one feature": (lambda d: changed(d, "train", inputs=d.train.inputs[:, 0]), r"found \(455,\); .*inputs\[:, None\]"),
    "empty test": (lambda d: replace(d, test=d.test[:0]), "test inputs expected .* with one example at least"),
    "NaN": (lambda d: changed(d, "train", inputs=d.train.inputs / 0), "train inputs expected finite numbers, found"),
    "other features": (lambda d: changed(d, "validation", inputs=torch.zeros(57, 29)), "30 features as train, found 29 f"),
    "fewer targets": (lambda d: changed(d, "train", targets=d.train.targets[1:]), r"\(455,\) .*found \(454,\)"),
    "from one": (
        lambda d: changed(d, "train", targets=d.train.targets + 1),
        r"expected class indices 0 … 1 \(455,\) in torch.int64, found 1 … 2; count from 0: targets - targets.min\(\)",
    ),
    "from minus one": (lambda d: changed(d, "test", targets=2 * d.test.targets - 1), "found -1 … 1; .*return_inverse"),
    "more classes": (lambda d: changed(d, "test", targets=torch.arange(57)), "found 0 … 56; give outputs the number of"),
    "floats": (lambda d: changed(d, "train", targets=d.train.targets.float()), r"torch.float32; .*targets.long\(\)"),
    "bools": (lambda d: changed(d, "test", targets=d.test.targets > 0), r"torch.bool; .*targets.long\(\)"),
    "column": (
        lambda d: changed(d, "test", targets=d.test.targets[:, None]),
        r"test targets expected class indices 0 … 1 \(57,\) in torch.int64, found \(57, 1\) in torch.int64; .*flatten\(\)",
    ),
    "one-hot": (lambda d: changed(d, "test", targets=torch.eye(2)[d.test.targets]), r"found \(57, 2\) .*argmax\(1\)"),
    "regression without a column": (
        lambda d: replace(changed(d, "train", targets=d.train.targets.float()), task_type="regression", outputs=1),
        r"train targets expected floating-point values \(455, 1\), found \(455,\) .*targets\[:, None\]",
    ),
    "NaN to predict": (
        lambda d: replace(
            changed(d, "train", targets=d.train.targets[:, None] / torch.zeros(1)), task_type="regression", outputs=1
        ),
        "train targets expected finite numbers",
    ),
}
"""What is wrong → a dataset made so, and the sentence."""


@pytest.mark.parametrize("name", BAD)
def test_a_bad_dataset_is_refused_before_work_and_not_written(name, wdbc, tmp_path, monkeypatch):
    spoil, message = BAD[name]
    bad = spoil(wdbc)
    with pytest.raises(ValueError, match=message):
        save_dataset(tmp_path / "data.safetensors", bad)
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(TASKS, "rings", lambda: bad)
    with pytest.raises(ValueError, match=f"task: rings: .*{message}"):
        fetch_dataset("rings")
    check_dataset(wdbc, "here")
    check_dataset(changed(wdbc, "train", inputs=wdbc.train.inputs.double()), "here")


def test_every_task_at_hand_passes(wdbc, digits):
    for task in ("none", "gaussian", "wdbc", "diabetes", "digits"):
        check_dataset(fetch_dataset(task), task)
