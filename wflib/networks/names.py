"""Which tensor of somebody's network is which of an architecture: by names, by shapes, never by the order they come in."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from wflib.architecture import Architecture
from wflib.architecture.operations import Convolution, Linear

__all__ = ["check_orientation", "listed", "match", "natural_order", "place", "units", "unwrapped"]

Shapes = Mapping[str, tuple[int, ...]]

ROLES = dict.fromkeys(("weight", "weights", "w", "kernel"), "weight") | dict.fromkeys(("bias", "biases", "b"), "bias")
WRAPPERS = {"_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""What torch.compile and wrappers for many processes put into names, in front or between."""


def listed(names: Iterable[object], limit: int = 12) -> str:
    """Names for a sentence, the first few of many."""
    texts = [str(name) for name in names]
    return ", ".join(texts[:limit]) + (f", … ({len(texts)} in all)" if len(texts) > limit else "")


def natural_order(name: str) -> tuple[list[str | int], str]:
    """Sorts epoch_2 before epoch_10."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def place(name: str) -> tuple[str, str]:
    """Module and role of a tensor: ``fc1.weight`` → (fc1, weight), ``biases.0`` → (0, bias); else no role."""
    parts = re.split(r"([._]|[0-9]+)", name)
    for index in reversed(range(len(parts))):
        if role := ROLES.get(parts[index].lower()):
            rest = "".join(parts[:index] + parts[index + 1 :]).strip("._")
            return re.sub(r"[._]{2,}", ".", rest), role
    return name, ""


def unwrapped(names: Collection[str]) -> Iterator[dict[str, str]]:
    """Names as they are, then without what wrappers add, more and more of it.

    A part in front of all names alike (``module.``, ``model.``, …) tells nothing about which tensor is which.

    Args:
        names: Of all tensors of one network.

    Yields:
        Given name → plain name.
    """
    plain = {name: name for name in names}
    yield plain
    bare = {name: ".".join(part for part in name.split(".") if part not in WRAPPERS) for name in names}
    if bare != plain and len(set(bare.values())) == len(bare):
        plain = bare
        yield plain
    while len({name.partition(".")[0] for name in plain.values()}) == 1 and all("." in name for name in plain.values()):
        plain = {given: name.partition(".")[2] for given, name in plain.items()}
        yield plain


def units(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Tensors by module: module → role → name."""
    found: dict[str, dict[str, str]] = {}
    for name in names:
        module, role = place(name)
        if role in found.get(module, {}):
            module, role = name, ""
        found.setdefault(module, {})[role] = name
    return found


def match(architecture: Architecture, shapes: Shapes, names: Mapping[str, str] | None = None) -> dict[str, str]:
    """Find each tensor of an architecture among given ones.

    In this order: what ``names`` says; names that are the architecture's, but for prefixes; modules whose shapes leave one
    assignment; among modules of equal shapes, the order of numbers where names differ in nothing else and where the other
    modules of such names lie in that order, too.

    Args:
        architecture: What the tensors shall be.
        shapes: Of one network's tensors, by name.
        names: Given name → the architecture's, of modules or of tensors, for some or all.

    Returns:
        The architecture's name → given name.

    Raises:
        ValueError: Tensors are missing, have other shapes, or could be exchanged for one another.
    """
    ours = {spec.name: architecture.shape(spec.name) for spec in architecture.tensors}
    if len(shapes) != len(ours):
        counts = f"has {len(shapes)} tensors ({listed(shapes)}); the architecture has {len(ours)} ({listed(ours)})"
        raise ValueError(f"{counts}; {counted_otherwise(shapes, len(ours))}.")
    found = chosen_by(names, shapes, ours) if names else {}
    for plain in unwrapped(shapes):
        rest = {plain[given]: given for given in shapes if given not in found.values()}
        if set(rest) == ours.keys() - found.keys():
            found |= rest
            break
    for name, given in ((name, found[name]) for name in ours if name in found):
        if shapes[given] != ours[name]:
            raise ValueError(f"{given} has shape {shapes[given]}; {name} of the architecture has {ours[name]}.")
    missing = {name: shape for name, shape in ours.items() if name not in found}
    if missing:
        matched = match_shapes(missing, {name: shapes[given] for name, given in rest.items()})
        found |= {name: rest[other] for name, other in matched.items()}
    return found


def counted_otherwise(names: Collection[str], count: int) -> str:
    """What helps where a network has other than so many tensors."""
    if len(names) < count:
        return "give the architecture of these networks"
    first = [name.partition(".")[0] for name in names if name.count(".") > 1]
    if parts := [part for part in dict.fromkeys(first) if first.count(part) == count]:
        alone = f"where they are no part of the network, as a loss's weights, leave them out with key={parts[0]!r}"
    else:
        alone = "else save the network alone"
    return f"where the others are constants or tied, give an instance of their class as module=…; {alone}"


def check_orientation(architecture: Architecture, given: Mapping[str, str]) -> None:
    """Check that weights are (outputs, inputs, *kernel), as those of torch.nn.Linear, where shapes do not show it.

    Args:
        architecture: What tensors are taken for.
        given: The architecture's name → given name.

    Raises:
        ValueError: Transposed weights would fit as well, and some are named neither as torch.nn.Linear names them nor as the
            architecture does, but for prefixes, or are numbered in another order than they would run.
    """
    maps = affine_maps(architecture)
    variants = list(unwrapped(given.values()))
    own = {name for name in maps if any(plain[given[name]] == name for plain in variants)}
    foreign = [given[name] for name in maps if name not in own and given[name].split(".")[-1] != "weight"]
    order = [given[name] for name in maps]
    numbered = len(own) < len(maps) and len({pattern(name) for name in order}) == 1
    if not foreign and numbered and order != sorted(order, key=numbers):
        foreign = order  # layers that would run from last to first: more likely transposed ones
    if foreign and fits_transposed(architecture, given):
        raise ValueError(
            f"cannot tell whether {listed(foreign)} are (outputs, inputs) or transposed: both fit. Say that they are the "
            "former by names={theirs: ours}, or give an instance of their class as module=…, whose outputs are compared."
        )


def affine_maps(architecture: Architecture) -> dict[str, str | None]:
    """Weights of linear maps and convolutions, in the order they run, → their biases."""
    maps = (one for one in architecture.operations if isinstance(one, (Linear, Convolution)))
    return {one.weight: one.bias for one in maps}


def turned(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(outputs, inputs, *kernel) → (*kernel, inputs, outputs), as others keep weights."""
    return (*shape[2:], *shape[1::-1])


def fits_transposed(architecture: Architecture, given: Mapping[str, str]) -> bool:
    """Whether weights could be (…, inputs, outputs), too: the same shapes either way, and no bias counts outputs."""
    maps = affine_maps(architecture)
    shapes = {weight: architecture.shape(weight) for weight in maps}
    if sorted(shapes.values()) != sorted(turned(shape) for shape in shapes.values()):
        return False
    uneven = [(weight, bias) for weight, bias in maps.items() if shapes[weight][0] != shapes[weight][-1]]
    return not any(bias and place(given[weight])[0] == place(given[bias])[0] for weight, bias in uneven)


def chosen_by(names: Mapping[str, str], shapes: Shapes, ours: Shapes) -> dict[str, str]:
    """The architecture's name → given name, of what the caller's mapping says."""
    variants = list(unwrapped(shapes))
    found: dict[str, str] = {}
    own_units = units(ours)
    if not isinstance(names, Mapping) or not all(isinstance(name, str) for pair in names.items() for name in pair):
        raise ValueError(f"names: expected a mapping such as {{'theirs': 'ours'}}, got {names!r}.")
    for theirs, name in names.items():
        if tensors := [given for given in shapes if any(plain[given] == theirs for plain in variants)]:
            pairs = {name: tensors[0]}
        elif tensors := [given for given in shapes if any(place(plain[given])[0] == theirs for plain in variants)]:
            pairs = {own_units.get(name, {}).get(place(given)[1], f"{name}.{place(given)[1]}"): given for given in tensors}
        else:
            modules = units(variants[-1].values())
            raise ValueError(f"names: {theirs!r} is no module or tensor of it; its modules are {listed(modules)}.")
        if unknown := [own for own in pairs if own not in ours]:
            raise ValueError(f"names: {listed(unknown)} is no tensor of the architecture; its tensors are {listed(ours)}.")
        if twice := (found.keys() & pairs.keys()) or {own for own, given in pairs.items() if given in found.values()}:
            raise ValueError(f"names: {listed(sorted(twice))} is named twice; give each tensor one name.")
        found |= pairs
    return found


def match_shapes(ours: Shapes, theirs: Shapes) -> dict[str, str]:
    """Our tensor → theirs, by modules where these have the same tensors, else tensor by tensor."""
    own, given = units(ours), units(theirs)
    own_kinds = {module: kind(roles, ours) for module, roles in own.items()}
    kinds = {module: kind(roles, theirs) for module, roles in given.items()}
    if sorted(own_kinds.values()) == sorted(kinds.values()):
        modules = assign(own_kinds, kinds)
        return {name: given[modules[module]][role] for module, roles in own.items() for role, name in roles.items()}
    if sorted(ours.values()) == sorted(theirs.values()):
        found = assign(ours, theirs)
        owners = {found[name]: module for module, roles in own.items() for name in roles.values()}
        if all(len({owners[name] for name in roles.values()}) == 1 for roles in given.values()):
            return found
    transposed = sorted(map(turned, ours.values())) == sorted(theirs.values())
    raise ValueError(
        f"has tensors {listed(f'{name} {shape}' for name, shape in theirs.items())}; the architecture has "
        f"{listed(f'{name} {shape}' for name, shape in ours.items())}"
        f"{', (outputs, inputs): transpose the weights' if transposed else ''}."
    )


def kind(roles: Mapping[str, str], shapes: Shapes) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """What two modules have in common that could be exchanged for one another."""
    return tuple(sorted((role, shapes[name]) for role, name in roles.items()))


def assign(ours: Mapping[str, tuple[Any, ...]], theirs: Mapping[str, tuple[Any, ...]]) -> dict[str, str]:
    """Ours, in the order they run, → theirs of the same kind; kinds are the same in both."""
    found: dict[str, str] = {}
    numbered: set[str] = set()
    for shared in dict.fromkeys(ours.values()):
        own = [name for name, one in ours.items() if one == shared]
        given = [name for name, one in theirs.items() if one == shared]
        if len(given) > 1:
            patterns = {pattern(name) for name in given}
            if len(patterns) > 1 or len({tuple(numbers(name)) for name in given}) < len(given):
                raise ValueError(ambiguous(given, own))
            numbered |= patterns
        found |= zip(own, sorted(given, key=numbers), strict=True)
    places = {other: index for index, other in enumerate(found[name] for name in ours)}
    for text in sorted(numbered):  # numbers that shapes contradict elsewhere are no order: fc1 last, fc4 first
        alike = sorted((name for name in theirs if pattern(name) == text), key=numbers)
        if [places[name] for name in alike] != sorted(places[name] for name in alike):
            owners = {other: name for name, other in found.items()}
            raise ValueError(ambiguous(alike, [owners[name] for name in alike]))
    return found


def pattern(name: str) -> str:
    return re.sub(r"[0-9]+", "#", name)


def numbers(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"[0-9]+", name)]


def ambiguous(given: list[str], own: list[str]) -> str:
    given = sorted(given, key=natural_order)
    example = ", ".join(f'"{theirs}": "{ours}"' for theirs, ours in zip(given[:2], own[:2], strict=True))
    return (
        f"cannot tell which of {listed(given)} is which of {listed(own)}: shapes allow several orders, names do not decide. "
        f"Say which with names={{{example}, …}}, or give an instance of their class as module=…, which is run to find out."
    )
