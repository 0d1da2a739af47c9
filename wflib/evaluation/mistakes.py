"""What each of many networks predicts wrongly, eight examples a byte where they are very many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wflib.networks import Networks, predict, wrong_predictions
from wflib.tasks import Split
from wflib.zoo import StoredNetworks, in_parts

__all__ = ["PackedMistakes", "training_mistakes"]

UNPACKED = 2**28
"""Most mistakes, in bytes, that are held one a byte."""


@dataclass(frozen=True)
class PackedMistakes:
    """A bool tensor (networks, examples) of which rows are unpacked when they are asked for.

    Attributes:
        packed: Eight examples a byte, (networks, bytes).
        examples: How many.
        device: Where unpacked rows are.
    """

    packed: np.ndarray
    examples: int
    device: torch.device

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, rows: slice) -> Tensor:
        """Some networks' mistakes, (networks, examples) bool."""
        return torch.from_numpy(np.unpackbits(self.packed[rows], axis=1, count=self.examples)).bool().to(self.device)

    def to(self, device: torch.device) -> PackedMistakes:
        """The same, unpacked on another device."""
        return PackedMistakes(self.packed, self.examples, device)


def training_mistakes(networks: Networks | StoredNetworks, split: Split, chunk: int = 256) -> Tensor | PackedMistakes:
    """Which examples each of many networks predicts wrongly, (networks, examples) bool, without keeping predictions."""
    count, examples = len(networks), len(split.targets)
    packed = count * examples > UNPACKED
    found = torch.empty(0 if packed else count, examples, dtype=torch.bool, device=networks.device)
    bits = np.empty((count if packed else 0, (examples + 7) // 8), dtype=np.uint8)
    done = 0
    for part in in_parts(networks):
        for some in part.split(chunk):
            wrong, here = wrong_predictions(predict(some, split.inputs), split.targets), slice(done, done + len(some))
            if packed:
                bits[here] = np.packbits(wrong.cpu().numpy(), axis=1)
            else:
                found[here] = wrong
            done += len(some)
    return PackedMistakes(bits, examples, networks.device) if packed else found
