"""Networks from files: safetensors and torch files, alone or in folders, without running anything in them."""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wflib.architecture import Architecture, Weights
from wflib.networks.checks import check_architecture
from wflib.networks.guards import BrokenFileError, refuse_expanded, refuse_more_than_held, refuse_no_file
from wflib.networks.headers import StateFile, described, from_artifact, header_of
from wflib.networks.names import listed, natural_order
from wflib.networks.stacking import stack
from wflib.networks.states import plain_state
from wflib.storage import ArtifactError, load_tensors

__all__ = ["SUFFIXES", "StateFile", "network_files", "read_file", "read_networks", "require_text"]

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")


def read_networks(
    path: Path,
    architecture: Architecture | None,
    names: Mapping[str, str] | None,
    module: nn.Module | None,
    key: str | None,
    dtype: torch.dtype,
    skip_broken: bool,
) -> tuple[Architecture, Weights, tuple[str, ...] | None, dict[str, Any]]:
    """What :meth:`wflib.networks.Networks.load` reads, whose arguments and errors these are.

    Returns:
        The architecture, tensors (networks, *shape), names of the networks where they have some, and metadata.

    Raises:
        ValueError: Nothing to read, another architecture than the file's, or tensors that do not fit; names the file.
    """
    if architecture is not None:
        check_architecture(architecture)
    files = read_files(path, key, skip_broken)
    architecture = agreed(path, architecture, files)
    labels = [str(file.path) for file in files]
    weights, counts = stack(architecture, [file.tensors for file in files], labels, names, module, dtype)
    if not sum(counts):
        raise ValueError(f"{path}: expected networks, found a file of none.")
    metadata = files[0].metadata if all(file.metadata == files[0].metadata for file in files) else {}
    return architecture, weights, names_of(files, path, counts) if path.is_dir() else files[0].names, metadata


def read_files(path: Path, key: str | None, skip_broken: bool) -> list[StateFile]:
    """Read one file, or those of a folder and of the folders in it in the natural order of their names.

    Args:
        path: File or folder.
        key: Which entry of a checkpoint holds the network.
        skip_broken: Leave out files of a folder that cannot be read, or hold no network.

    Returns:
        At least one. Warns of what is no file of networks, and of what was broken.

    Raises:
        ValueError: Nothing to read; says what was found.
    """
    if path.is_file():
        return [read_file(path, key)]
    if not path.is_dir():
        raise ValueError(f"{path}: expected a file or a folder of networks, found neither.")
    paths, left_out = network_files(path)
    if not paths:
        found = f"only {listed(left_out, 5)}" if left_out else "nothing"
        raise ValueError(f"{path}: expected files that end in {listed(SUFFIXES)}, found {found}.")
    if left_out:
        warnings.warn(f"{path}: left out {len(left_out)} that are no networks: {listed(left_out, 5)}.", stacklevel=4)
    files, broken, first = [], [], ""
    for file in paths:
        try:
            files.append(read_file(file, key))
        except ValueError as error:  # no network, as an optimizer's state, is left out like a damaged file
            if not skip_broken:
                raise ValueError(f"{error} Of a folder, skip_broken=True leaves such files out.") from error
            broken.append(file.relative_to(path).as_posix())
            first = first or str(error)
    if not files:
        raise ValueError(f"{path}: none of {len(paths)} files could be read: {listed(broken, 5)}; the first: {first}")
    if broken:
        warnings.warn(
            f"{path}: left out {len(broken)} of {len(paths)} files, unreadable: {listed(broken, 5)}.", stacklevel=4
        )
    return files


def network_files(folder: Path) -> tuple[list[Path], list[str]]:
    """Files of networks in a folder and its folders, epoch_2 before epoch_10, and the names of what is left out.

    Hidden folders and links to folders are left out.

    Raises:
        ValueError: A folder cannot be read, or a name is no text.
    """

    def refuse(error: OSError) -> None:
        raise ValueError(
            f"{error.filename}: expected a folder that can be read, {error.strerror}; make it readable or move it away."
        ) from error

    files: list[str] = []
    left_out: list[str] = []
    for root, folders, names in os.walk(folder, onerror=refuse):
        require_text(root, (*folders, *names))
        inside = Path(root).relative_to(folder)
        not_read = {name for name in folders if name.startswith(".") or (Path(root) / name).is_symlink()}
        left_out += [f"{(inside / name).as_posix()}/" for name in not_read]
        folders[:] = [name for name in folders if name not in not_read]
        for name in names:
            fits = Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
            (files if fits else left_out).append((inside / name).as_posix())
    return [folder / name for name in sorted(files, key=natural_order)], sorted(left_out, key=natural_order)


def require_text(folder: str | Path, names: Iterable[str]) -> None:
    """Refuse names of files that are no UTF-8, which no table of ours can hold.

    Raises:
        ValueError: Names the first.
    """
    for name in names:
        if not name.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in name):
            told = os.fsencode(name).decode("utf-8", "replace")
            raise ValueError(f"{folder}: expected names of files in UTF-8, found {told!r}; rename it.")


def names_of(files: Sequence[StateFile], folder: Path, counts: Sequence[int]) -> tuple[str, ...]:
    """One name for each network: what its file says, else the file's own, with its suffix where two would be alike."""
    paths = [file.path.relative_to(folder) for file in files]
    short, long = [path.with_suffix("").as_posix() for path in paths], [path.as_posix() for path in paths]
    chosen: list[str] = []
    for file, count, name, full in zip(files, counts, short, long, strict=True):
        chosen += file.names or numbered(name if short.count(name) == 1 else full, count)
    if len(set(chosen)) == sum(counts):
        return tuple(chosen)
    return sum((numbered(full, count) for full, count in zip(long, counts, strict=True)), ())


def numbered(name: str, count: int) -> tuple[str, ...]:
    """Names of the networks of one file."""
    return (name,) if count == 1 else tuple(f"{name}[{index}]" for index in range(count))


def read_file(path: Path, key: str | None) -> StateFile:
    """Read a file of one network or of stacked ones.

    Args:
        path: File with a suffix of ``SUFFIXES``.
        key: Which entry of a checkpoint holds the network.

    Returns:
        Its tensors, and what its header says.

    Raises:
        BrokenFileError: The file is damaged or holds objects other than tensors.
        ValueError: It holds something else than networks; says what.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: expected a file that ends in {listed(SUFFIXES)}; rename it if it is one of these.")
    if (shard := re.search(r"-[0-9]+-of-([0-9]+)$", path.stem)) and int(shard[1]) > 1:
        raise ValueError(f"{path}: is one of {int(shard[1])} parts of a network; merge them into one state dict first.")
    refuse_no_file(path)
    if path.suffix.lower() != ".safetensors":
        return StateFile(path, located(path, read_torch_file(path), key))
    try:
        tensors, header = load_tensors(path, remedy="copy it or write it again")
    except ArtifactError as error:
        raise BrokenFileError(str(error)) from error
    if "wflib" not in header:
        return StateFile(path, located(path, tensors, key))
    return from_artifact(path, tensors, *header_of(path, header))


def located(path: Path, content: Any, key: str | None) -> dict[str, Tensor]:
    try:
        tensors = plain_state(content, key)
        refuse_expanded(tensors)
        return tensors
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_torch_file(path: Path) -> Any:
    try:
        refuse_no_file(path)
        refuse_more_than_held(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except BrokenFileError:
        raise
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"{found[1]}, which is no tensor" if found else "no readable torch file"
        raise BrokenFileError(
            f"{path}: expected a state dict, found {what}; torch.load(weights_only=True) refuses whatever could run code. "
            "Where you trust the file, load it with your own code and save only model.state_dict(), best as safetensors."
        ) from error
    except Exception as error:  # torch and zip have many words for a damaged file
        said = " ".join(str(error).split()).partition(". ")[0] or type(error).__name__
        raise BrokenFileError(f"{path}: expected a state dict, found a damaged or foreign file ({said}).") from error


def agreed(path: Path, given: Architecture | None, files: Sequence[StateFile]) -> Architecture:
    """The one architecture that the caller and all headers mean.

    Raises:
        ValueError: They differ, or nobody says it.
    """
    found = given
    for file in files:
        if found is None:
            found = file.architecture
        elif file.architecture not in (None, found):
            asked = "asked for" if given is not None else "others here are"
            raise ValueError(
                f"{file.path}: its networks are {described(file.architecture)}; {asked} {described(found)}."
                f"{' Leave the architecture out to read them as they are.' if given is not None else ''}"
            )
    if found is None:
        raise ValueError(f"{path}: no header says the architecture; give it, as in Networks.load(path, mlp([30, 16, 2])).")
    return found
