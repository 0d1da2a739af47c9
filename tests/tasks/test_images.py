"""Image data sets: the checksum decides, sources are tried in turn, and what fails leaves nothing behind."""

from __future__ import annotations

import gzip
import hashlib

import numpy as np
import pytest

from wflib.tasks import images
from wflib.tasks.images import ImageSource, fetch_images, read_idx, store_folder
from wflib.tasks.loading import load_images


def idx(array: np.ndarray) -> bytes:
    """An array of bytes as an IDX file."""
    return (
        bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.astype(np.uint8).tobytes()
    )


@pytest.fixture
def files() -> dict[str, bytes]:
    random = np.random.default_rng(0)
    contents = {}
    for part, count in (("train", 12), ("t10k", 4)):
        contents[f"{part}-images-idx3-ubyte"] = idx(random.integers(0, 256, (count, 28, 28)))
        contents[f"{part}-labels-idx1-ubyte"] = idx(random.integers(0, 10, count))
    return contents


@pytest.fixture
def source(files, monkeypatch):
    """A data set ``toy`` whose mirrors fail and whose package is whatever the test says."""
    state = {"package": files, "tried": []}

    def package(folder) -> None:
        state["tried"].append("package")
        for name, content in state["package"].items():
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))

    def download(source, mirror, folder) -> None:
        state["tried"].append(mirror)
        raise OSError("no network")

    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    monkeypatch.setitem(images.IMAGES, "toy", ImageSource(checksums, ("mirror-a", "mirror-b"), package))
    monkeypatch.setattr(images, "download", download)
    return state


def test_sources_are_tried_in_turn_and_the_store_is_filled(source, files, tmp_path):
    found = fetch_images("toy", tmp_path)
    assert source["tried"] == ["mirror-a", "mirror-b", "package"]
    assert {name: path.read_bytes() for name, path in found.items()} == files
    fetch_images("toy", tmp_path)
    assert len(source["tried"]) == 3


def test_files_put_into_the_store_by_hand_are_used(source, files, tmp_path):
    (tmp_path / "toy").mkdir()
    for index, (name, content) in enumerate(files.items()):
        zipped = index % 2
        (tmp_path / "toy" / f"{name}{'.gz' if zipped else ''}").write_bytes(gzip.compress(content) if zipped else content)
    assert {name: path.read_bytes() for name, path in fetch_images("toy", tmp_path).items()} == files
    assert source["tried"] == []


def test_a_store_that_is_complete_is_read_and_never_written(source, files, tmp_path, monkeypatch):
    found = fetch_images("toy", tmp_path)
    before = {name: (path.stat().st_ino, path.stat().st_mtime_ns) for name, path in found.items()}

    def refuses(path):
        raise PermissionError(f"{path}: the folder is for reading")

    monkeypatch.setattr(images, "atomic_path", refuses)
    again = fetch_images("toy", tmp_path)
    assert {name: path.read_bytes() for name, path in again.items()} == files
    assert {name: (path.stat().st_ino, path.stat().st_mtime_ns) for name, path in again.items()} == before
    # what is not there yet is written, so that the refusal is heard
    name = next(iter(files))
    (tmp_path / "toy" / f"{name}.gz").write_bytes(gzip.compress(files[name]))
    (tmp_path / "toy" / name).unlink()
    with pytest.raises(OSError, match="the folder is for reading"):
        fetch_images("toy", tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t10k-labels-idx1-ubyte", b"other", "SHA-256"),
        ("t10k-images-idx3-ubyte", None, "t10k-images-idx3-ubyte is missing"),
    ],
)
def test_a_wrong_or_missing_file_is_an_error_and_not_kept(source, files, tmp_path, name, content, message):
    source["package"] = {key: value for key, value in files.items() if key != name} | ({name: content} if content else {})
    with pytest.raises(OSError, match=message) as caught:
        fetch_images("toy", tmp_path)
    for part in ("the store", "mirror-a: no network", "mirror-b", "WFLIB_DATA", str(tmp_path / "toy")):
        assert part in str(caught.value)
    assert list(tmp_path.rglob("*ubyte*")) == []


def test_a_damaged_archive_is_an_error(source, files, tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(files["train-images-idx3-ubyte"])[:50])
    source["package"] = {}
    with pytest.raises(OSError, match="cannot be decompressed"):
        fetch_images("toy", tmp_path)


def test_the_store_is_the_folder_that_the_environment_names(monkeypatch, tmp_path):
    monkeypatch.setenv("WFLIB_DATA", str(tmp_path))
    assert store_folder() == tmp_path
    monkeypatch.delenv("WFLIB_DATA")
    assert store_folder().name == "wflib"


def test_idx_files_are_read_and_checked(tmp_path):
    array = np.arange(24).reshape(2, 3, 4)
    (tmp_path / "a").write_bytes(idx(array))
    assert np.array_equal(read_idx(tmp_path / "a"), array)
    for spoiled in (idx(array)[:-1], b"", b"\x00\x00\x0d\x01" + idx(array)[4:]):
        (tmp_path / "a").write_bytes(spoiled)
        with pytest.raises(OSError, match="expected an IDX file"):
            read_idx(tmp_path / "a")


def test_a_dataset_is_split_and_standardized_by_its_training_part(source, monkeypatch, tmp_path):
    monkeypatch.setenv("WFLIB_DATA", str(tmp_path))
    monkeypatch.setattr("wflib.tasks.loading.VALIDATION_IMAGES", 2)
    dataset = load_images("toy")
    assert [len(part.inputs) for part in (dataset.train, dataset.validation, dataset.test)] == [10, 2, 4]
    assert (dataset.features, dataset.outputs, dataset.task_type) == (784, 10, "classification")
    assert abs(float(dataset.train.inputs.mean())) < 1e-5
    assert abs(float(dataset.train.inputs.std(correction=0)) - 1) < 1e-5
    assert abs(float(dataset.test.inputs.mean())) > 1e-5
