"""Parts of a long computation, kept until the whole is done, so that a run that was killed goes on."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from wflib.storage.artifact import ArtifactError, load_artifact, save_artifact

__all__ = ["KeptParts"]


class KeptParts:
    """Makes parts one by one, or reads those that a run before has made.

    >>> from tempfile import TemporaryDirectory
    >>> import torch
    >>> with TemporaryDirectory() as folder:
    ...     made = KeptParts(folder)("first", lambda: {"x": torch.ones(2)})
    ...     found = KeptParts(folder)("first", lambda: {"x": torch.zeros(2)})
    >>> found["x"].tolist()
    [1.0, 1.0]

    Args:
        folder: A folder that names all that parts depend on; None to keep nothing.

    Attributes:
        seconds: What making the parts that were found has taken, in the runs that made them.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder, self.seconds = None if folder is None else Path(folder), 0.0

    def __call__(self, name: str, make: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """A part, as it was kept, or made now: a file that is damaged counts for nothing. NaN and infinity are not kept."""
        if self.folder is None:
            return make()
        path, started = self.folder / f"{name}.safetensors", time.perf_counter()
        with suppress(ArtifactError):
            found, facts = load_artifact(path, "part", "")
            self.seconds += facts["seconds"]
            return found
        made = make()
        if all(bool(tensor.isfinite().all()) for tensor in made.values()):
            save_artifact(path, "part", made, {"seconds": time.perf_counter() - started})
        return made

    def discard(self) -> None:
        """The whole is done."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
