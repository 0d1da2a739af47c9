"""Novelty of functions: the nearest training network in predictions, and the largest overlap of errors with any of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from wflib.evaluation.mistakes import PackedMistakes
from wflib.evaluation.novelty import error_overlap

__all__ = ["largest_error_overlap", "nearest_function"]

ELEMENTS = 2**23


def foreign_tiles(
    rows: int, columns: int, clusters: Tensor | None, training_clusters: Tensor | None, length: int = 1
) -> Iterator[tuple[slice, Tensor | None]]:
    """Rows that are compared with all columns at once, and which of those pairs are of one trajectory, None for none.

    Yields:
        As many rows as have ``ELEMENTS`` pairs, and as many numbers of their own, of rows of the given length.
    """
    height = max(1, ELEMENTS // max(1, columns, length))
    for start in range(0, rows, height):
        part = slice(start, min(rows, start + height))
        own = None
        if clusters is not None and training_clusters is not None:
            own = clusters[part, None] == training_clusters[None, :]
        yield part, own


@torch.no_grad()
def nearest_function(
    log_probabilities: Tensor,
    training: Tensor,
    clusters: Tensor | None = None,
    training_clusters: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Nearest training network in predictions, min over n of mean_i TV(p(· | x_i), p_n(· | x_i)).

    TV(p, q) = ½ Σ_c |p_c − q_c|, the largest difference of probabilities that both give to any set of classes.

    Args:
        log_probabilities: (networks, examples, classes), natural logarithms.
        training: (training networks, the same examples, classes).
        clusters: Trajectory of each network, (networks,), where they are of the zoo; None for drawn networks.
        training_clusters: Trajectory of each training network; those of a network's own do not count.

    Returns:
        Distance (networks,), between 0 and 1, infinite without a foreign training network, and its index (networks,).

    Raises:
        ValueError: Other examples or classes, or no training network.
    """
    if log_probabilities.shape[1:] != training.shape[1:] or len(training) == 0:
        raise ValueError(
            "Shape mismatch: nearest_function expected training networks on the same examples and classes, "
            f"got {tuple(log_probabilities.shape)} and {tuple(training.shape)}."
        )
    examples, classes = training.shape[1:]
    # Probabilities of two classes add up to one: the differences of both are the same.
    kept, factor = (1, 1.0) if classes == 2 else (classes, 0.5)
    ours, theirs = (side[..., :kept].exp().flatten(1).contiguous() for side in (log_probabilities, training))
    distance, index = [], []
    for part, own in foreign_tiles(len(ours), len(theirs), clusters, training_clusters):
        apart = torch.cdist(ours[part], theirs, p=1)
        found = (apart if own is None else apart.masked_fill(own, torch.inf)).min(1)
        distance.append(found.values * (factor / examples))
        index.append(found.indices)
    return torch.cat(distance), torch.cat(index)


@torch.no_grad()
def largest_error_overlap(
    wrong: Tensor,
    training_wrong: Tensor | PackedMistakes,
    clusters: Tensor | None = None,
    training_clusters: Tensor | None = None,
) -> Tensor:
    """Maximum over all training networks of the overlap (intersection over union) of wrongly predicted examples.

    By matrix products of tiles, so that memory is bounded however many networks and examples there are.

    The definition of Zeng et al. 2025, "Generative Modeling of Weights: Generalization or Memorization?". Unlike the overlap
    with the one nearest in weights, it is large where any training network makes the same mistakes: read it beside held-out
    networks', as many training networks and few mistakes make it large for all.

    Args:
        wrong: (networks, examples) bool.
        training_wrong: (training networks, examples) bool, packed where they are very many.
        clusters: Trajectory of each network, where they are of the zoo; None for drawn networks.
        training_clusters: Trajectory of each training network; those of a network's own do not count.

    Returns:
        (networks,), between 0 and 1; 0 without a foreign training network.
    """
    largest, examples = torch.zeros(len(wrong), device=wrong.device), wrong.shape[-1]
    for columns in torch.arange(len(training_wrong)).split(max(1, ELEMENTS // max(1, examples))):
        some = slice(int(columns[0]), int(columns[-1]) + 1)
        theirs, runs = training_wrong[some], None if training_clusters is None else training_clusters[some]
        for part, own in foreign_tiles(len(wrong), len(theirs), clusters, runs, examples):
            overlap = error_overlap(wrong[part], theirs)
            overlap = overlap if own is None else overlap.masked_fill(own, 0)
            largest[part] = torch.maximum(largest[part], overlap.amax(1))
    return largest
