"""Writing a zoo that memory does not hold, part by part."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from wflib.architecture import Architecture
from wflib.networks import Networks
from wflib.networks.names import listed
from wflib.storage import RowFile, RowWriter, artifact_header, atomic_path, readable, save_artifact
from wflib.symmetry import Permutations, Scales
from wflib.zoo.base import AnyZoo
from wflib.zoo.checks import check_initial, check_labels, check_metadata, check_places
from wflib.zoo.files import facts_of, require_distinct
from wflib.zoo.stored import INDEX, LABEL_FILE, shard_name

__all__ = ["ZooWriter", "require_replaceable"]

AGAIN = "write the zoo again"
FILES = re.compile(r"index\.json|labels\.safetensors|(networks|initial)-[0-9]{5,}\.safetensors")
"""What a zoo's folder holds."""


def require_replaceable(path: str | Path) -> None:
    """Refuse the name of a folder that is no zoo, before the work whose result would take its place; touches nothing.

    Args:
        path: File or folder to write; a file, an empty folder and a zoo's folder are replaced.

    Raises:
        ValueError: A folder with files that no zoo has; names some.
    """
    path = Path(path)
    present = sorted(inner.name for inner in path.iterdir()) if path.is_dir() else []
    strange = [name for name in present if FILES.fullmatch(name) is None]
    if strange or (present and not is_zoo(path)):
        raise ValueError(
            f"{path}: expected a place for a zoo, which replaces what is there, found a folder with files that are no "
            f"zoo's: {listed(strange or present, 3)}; name another place, or move the folder away."
        )


def is_zoo(folder: Path) -> bool:
    """Whether a folder's index says that it is a zoo."""
    try:
        index = json.loads((folder / INDEX).read_text())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(index, dict) and index.get("kind") == "zoo"


class ZooWriter:
    """Writes networks as they come: few as one file, byte for byte what ``save_zoo`` writes, many as a folder of shards.

    Everything goes to a hidden folder beside the path, which takes its name at the end of :meth:`finish`; a writer that is
    left before, by an error or otherwise, leaves nothing behind.

    >>> import torch
    >>> from tempfile import TemporaryDirectory
    >>> from wflib.architecture import mlp
    >>> from wflib.zoo import initialize, open_zoo
    >>> from wflib.rng import generator
    >>> folder, architecture = TemporaryDirectory(), mlp([3, 4, 2])
    >>> with ZooWriter(f"{folder.name}/trained.safetensors", shard_networks=50) as writer:
    ...     for part in range(3):
    ...         writer.append(initialize(architecture, 40, 0.3, generator(0, part)))
    ...     runs = torch.arange(120)
    ...     writer.finish("trained", runs, torch.zeros_like(runs), runs >= 100)
    >>> len(open_zoo(f"{folder.name}/trained.safetensors", "trained"))
    120
    >>> folder.cleanup()

    Args:
        path: File or folder to write; a file, an empty folder or a zoo's that is there is replaced.
        shard_networks: Most networks of one file.

    Raises:
        ValueError: A folder that is no zoo is there, as :func:`require_replaceable` says.
    """

    def __init__(self, path: str | Path, shard_networks: int) -> None:
        if shard_networks < 1:
            raise ValueError(f"zoo.shard_networks: expected at least 1, got {shard_networks}.")
        require_replaceable(path)
        self.path, self.limit = Path(path), shard_networks
        self.architectures: dict[str, Architecture] = {}
        self.shards: dict[str, list[dict[str, Any]]] = {"networks": [], "initial": []}

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(dir=self.path.parent, prefix=f".{self.path.name}."))
        self.waiting = Path(tempfile.mkdtemp(dir=self.path.parent, prefix=f".{self.path.name}."))
        self.writers = {what: RowWriter(self.waiting) for what in self.shards}
        return self

    def __exit__(self, *error: object) -> None:
        for writer in self.writers.values():
            writer.discard()
        for folder in (self.folder, self.waiting):
            shutil.rmtree(folder, ignore_errors=True)

    def append(self, networks: Networks, permutations: Permutations | None = None, record: Scales | None = None) -> None:
        """More networks, and what was done to each."""
        rows = {f"weights.{name}": networks.weights[name] for name, _ in networks.architecture.shapes}
        rows |= {f"permutations.{name}": tensor for name, tensor in (permutations or {}).items()}
        rows |= {f"record.{name}": tensor for name, tensor in (record or {}).items()}
        self.add("networks", networks.architecture, rows)

    def append_initial(self, networks: Networks) -> None:
        """What further trajectories began with, in their order."""
        rows = {f"initial.{name}": networks.weights[name] for name, _ in networks.architecture.shapes}
        self.add("initial", networks.architecture, rows)

    def append_initial_of(self, zoo: AnyZoo) -> None:
        """What the trajectories of another zoo began with, if that is known."""
        if zoo.initial is not None:
            for start in range(0, len(zoo.initial), self.limit):
                self.append_initial(zoo.initial[start : start + self.limit])

    def forget_initial(self) -> None:
        """As if nothing were known of what trajectories began with."""
        self.writers["initial"].discard()
        for number in range(len(self.shards["initial"])):
            (self.folder / shard_name("initial", number)).unlink()
        self.shards["initial"] = []
        self.architectures.pop("initial", None)

    def add(self, what: str, architecture: Architecture, rows: Mapping[str, Tensor]) -> None:
        """Rows, of which a shard is written as soon as one more than it holds has come."""
        if self.architectures.setdefault(what, architecture) != architecture:
            raise ValueError(f"{self.path}: expected networks of one architecture, got another one; nothing was written.")
        count, writer = len(next(iter(rows.values()))), self.writers[what]
        done = 0
        while done < count:
            if writer.rows == self.limit:
                self.write_shard(what)
            taken = min(count - done, self.limit - writer.rows)
            writer.append({name: tensor[done : done + taken] for name, tensor in rows.items()})
            done += taken

    def write_shard(self, what: str) -> None:
        """The rows that wait as one file."""
        path = self.folder / shard_name(what, len(self.shards[what]))
        count = self.writers[what].rows
        self.writers[what].finish(path, {}, artifact_header(path, "zoo-shard", {}))
        self.shards[what].append({"rows": count, "fingerprint": RowFile(path, AGAIN).fingerprint()})

    def finish(
        self,
        form: str,
        trajectory: Tensor,
        step: Tensor,
        held_out: Tensor,
        aligned_to: Networks | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Say what the networks are, and give the whole its name.

        Args:
            form: A key of ``FORMS``.
            trajectory: Of all networks in the order in which they came, like all labels.
            step: Likewise.
            held_out: Likewise.
            aligned_to: The one network that alignment aimed at.
            metadata: JSON-serializable.

        Raises:
            ValueError: Labels that do not fit, no networks, or two of the same trajectory and step; nothing is written.
        """
        metadata = dict(metadata or {})
        counts = {what: sum(s["rows"] for s in self.shards[what]) + self.writers[what].rows for what in self.shards}
        initial = self.architectures.get("initial")
        try:
            check_labels(counts["networks"], trajectory, step, held_out)
            require_distinct(trajectory, step)
            check_places(trajectory, step, counts["initial"] if initial else None)
            check_metadata(metadata)
            if initial:
                check_initial(self.architectures["networks"], initial)
        except ValueError as error:
            raise ValueError(f"{self.path}: {str(error).removesuffix('.')}; nothing was written.") from error
        labels = {"trajectory": trajectory, "step": step, "held_out": held_out}
        if aligned_to is not None:
            labels |= {f"aligned_to.{name}": tensor for name, tensor in aligned_to.weights.items()}
        facts = facts_of(form, self.architectures["networks"], initial, metadata)
        if any(self.shards.values()):
            self.write_folder(labels, facts)
            made = self.folder
        else:
            made = self.folder / "zoo.safetensors"
            header = artifact_header(self.path, "zoo", facts)
            self.writers["networks"].finish(made, labels, header, self.writers["initial"])
        self.put(made)

    def write_folder(self, labels: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """The last shards, labels and the index."""
        for what, writer in self.writers.items():
            if writer.rows:
                self.write_shard(what)
        save_artifact(self.folder / LABEL_FILE, "zoo-labels", labels, {})
        text = artifact_header(self.path, "zoo", {**facts, "shards": self.shards})["wflib"]
        with atomic_path(self.folder / INDEX) as temporary:
            temporary.write_text(json.dumps(json.loads(text), indent=1) + "\n")

    def put(self, made: Path) -> None:
        """Give what was made its name; an older zoo, file or folder, goes."""
        readable(made)
        require_replaceable(self.path)  # others may have put something there in the meantime
        if self.path.is_dir():
            old = self.waiting / "old"
            self.path.rename(old)
            try:
                made.rename(self.path)
            except BaseException:
                old.rename(self.path)
                raise
        elif made.is_dir():
            self.path.unlink(missing_ok=True)
            made.rename(self.path)
        else:
            made.replace(self.path)
