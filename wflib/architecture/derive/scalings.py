"""Classes of scales: tensors that are multiplied and divided by the same factors without a change of the function."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wflib.architecture.derive.facts import Entry
from wflib.architecture.derive.groups import unique_names
from wflib.architecture.derive.ledger import Ledger
from wflib.architecture.derive.wires import ONE, ZERO, mix

__all__ = ["Factor", "Scaling", "find_scalings"]


@dataclass(frozen=True, eq=False)
class Factor:
    """What a scaling does to one tensor.

    Attributes:
        tensor: Its name.
        axes: The axes that ``index`` spans.
        index: Which factor applies at each place; -1 for none.
        power: 1 where values are written, -1 where they are read, 0 for the sign, 2 for a variance.
        shift: ε of a variance: what scales is variance + ε.
    """

    tensor: str
    axes: tuple[int, ...]
    index: Tensor
    power: int
    shift: float = 0.0


@dataclass(frozen=True, eq=False)
class Scaling:
    """Neurons that may each be rescaled.

    Attributes:
        name: Of the value whose entries are rescaled first.
        size: Number of factors.
        kind: ``"positive"``, ``"sign"``, or ``"any"`` for both.
        factors: What each tensor is multiplied by.
    """

    name: str
    size: int
    kind: str
    factors: tuple[Factor, ...]


def find_scalings(ledger: Ledger) -> tuple[Scaling, ...]:
    """All scalings, in the order of the network; classes that stand at the same places are one scaling."""
    entries = merged_entries(ledger)
    names = ledger.scales.names
    positive, signs = (torch.zeros_like(names, dtype=torch.bool) for _ in range(2))
    for flags, restricted in ((positive, ledger.positive), (signs, ledger.signs)):
        for scales in restricted:
            flags[names[scales]] = True
    taken = positive & signs
    taken[[ONE, ZERO]] = True
    signature, used = torch.zeros_like(names), torch.zeros_like(taken)
    for key, entry in enumerate(entries):
        owners = names[entry.scales].reshape(-1)
        signature.index_add_(0, owners, mix(torch.full_like(owners, key)))
        used[owners] = True
    signature = mix(signature, positive.long(), signs.long())
    free = (used & ~taken).nonzero().squeeze(1)
    classes = [free[signature[free] == one] for one in signature[free].unique()]
    classes.sort(key=lambda members: int(members[0]))
    starts = torch.tensor([start for _, _, start in ledger.names])
    titles = unique_names(
        [ledger.names[int(torch.searchsorted(starts, members[0], right=True)) - 1][0] for members in classes]
    )
    place, owner = torch.full_like(names, -1), torch.full_like(names, -1)
    for index, members in enumerate(classes):
        place[members], owner[members] = torch.arange(len(members)), index
    factors: list[list[Factor]] = [[] for _ in classes]
    for entry in entries:
        scales = names[entry.scales]
        for index in owner[scales].unique().tolist():
            if index >= 0:
                here = torch.where(owner[scales] == index, place[scales], -1)
                factors[index].append(Factor(entry.tensor, entry.axes, here, entry.power, entry.shift))
    return tuple(
        Scaling(
            title,
            len(members),
            "positive" if positive[members[0]] else "sign" if signs[members[0]] else "any",
            tuple(parts),
        )
        for title, members, parts in zip(titles, classes, factors, strict=True)
    )


def merged_entries(ledger: Ledger) -> list[Entry]:
    """One entry for every way in which a tensor follows scales, joined where several operations use the tensor alike.

    Where they use it differently, it cannot follow both: nothing that it follows may be rescaled.
    """
    uses: dict[str, dict[int, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    for entry in ledger.entries:
        uses[entry.tensor][entry.operation].append(entry)
    found = []
    for operations in uses.values():
        first, *others = operations.values()
        for other in others:
            if [(entry.axes, entry.power) for entry in first] != [(entry.axes, entry.power) for entry in other]:
                for entry in (*first, *other):
                    ledger.end(entry.scales)
                continue
            for place, (a, b) in enumerate(zip(first, other, strict=True)):
                ledger.join(a.scales, b.scales)
                # Rows of one tensor may belong to several maps: queries, keys, values.
                first[place] = replace(a, scales=torch.where(a.scales == ZERO, b.scales, a.scales))
        found += first
    return found
