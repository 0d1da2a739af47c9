"""One network's tensors out of what people keep in checkpoints: wrappers, counters and optimizers left aside."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from wflib.networks.names import ROLES, listed, place

__all__ = ["check_floating", "is_counter", "plain_state"]

BESIDES = re.compile(
    r"(^|[._])(optim|sched|lr_|scaler|callback|loops?$|hyper|hparam|config|args|metric|histor|rng|random)", re.IGNORECASE
)
"""Entries of checkpoints that hold tensors now and then and never a network."""

DEEPEST = 32
"""Mappings around a network that are looked into."""
COMPUTED = re.compile(r"(^|\.)parametrizations\.|_orig$|weight_g$")
"""Tensors that weights are computed from: of torch.nn.utils.parametrize, of pruning, of spectral and weight norm."""


def plain_state(content: Any, key: str | None = None) -> dict[str, Tensor]:
    """A flat state dict from a checkpoint's content.

    Args:
        content: A state dict, or mappings around one, as ``{"state_dict": …, "epoch": 3}``.
        key: Which entry holds the network, where several could; its names' first part where all are in one mapping, also
            inside of others.

    Returns:
        Name → tensor, without counters such as ``num_batches_tracked`` and what is no tensor.

    Raises:
        ValueError: No network in it, or several; says what was found and how to choose.
    """
    require_mapping(content)
    content = content if key is None else entry(content, key)
    for _ in range(DEEPEST):
        require_mapping(content)
        if (inside := unwrapped(content)) is content:
            return own_tensors(content)
        content = inside
    raise ValueError(f"expected a network below at most {DEEPEST} mappings, found more; save model.state_dict().")


def require_mapping(content: Any) -> None:
    if isinstance(content, nn.Module):
        raise ValueError(f"expected a state dict, found the module {type(content).__name__}; give its .state_dict().")
    if isinstance(content, (list, tuple)):
        raise ValueError(
            f"expected one network's state dict, found {described(content)}; save each in a file of its own, or give "
            "them to Networks.from_state_dicts."
        )
    if not isinstance(content, Mapping):
        raise ValueError(
            f"expected a mapping of names to tensors, found {described(content)}; save model.state_dict() of one network."
        )
    if "param_groups" in content:
        raise ValueError("expected a network's state dict, found an optimizer's; save model.state_dict().")


def unwrapped(content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The mapping that holds the network: one inside this one, or itself.

    Raises:
        ValueError: Several could be; names them.
    """
    own = [name for name, value in content.items() if is_weight(name, value)]
    inner = [name for name, value in content.items() if holds_weights(name, value)]
    if inner and not any(place(str(name))[1] for name in own):
        own = []  # a curve of losses, or the data's mean, beside the network
    if inner and not own and all(set(content[name]) <= set(ROLES) for name in inner):
        return {f"{name}.{role}": content[name][role] for name in inner for role in content[name]}
    if len(inner) + bool(own) > 1:
        raise ValueError(
            f"holds several mappings of tensors ({listed([*inner, *own])}); say which is the network with key={inner[0]!r}."
        )
    return content[inner[0]] if inner else content


def own_tensors(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    found = {}
    for name, value in content.items():
        if isinstance(value, Tensor) and not is_counter(name, value):
            if not isinstance(name, str):
                raise ValueError(f"expected names of tensors as text, found {name!r}; save model.state_dict().")
            if isinstance(value, nn.parameter.UninitializedTensorMixin):  # type: ignore[attr-defined]
                raise ValueError(f"{name}: expected numbers, found a lazy module's tensor without any; run the module once.")
            found[name] = value.detach()
        elif type(value).__module__ == "numpy" and getattr(value, "ndim", False):
            raise ValueError(f"{name}: expected a tensor, found a numpy array; use torch.from_numpy.")
        elif isinstance(value, (list, tuple)) and value and place(str(name))[1]:
            raise ValueError(f"{name}: expected a tensor, found a {type(value).__name__}; use torch.tensor.")
    if not found:
        raise ValueError(f"expected a mapping of names to tensors, found no tensor in {described(content)}.")
    if computed := [name for name in found if COMPUTED.search(name)]:
        raise ValueError(
            f"expected weights, found what they are computed from: {listed(computed)}; before saving, make them plain with "
            "torch.nn.utils.parametrize.remove_parametrizations, prune.remove, remove_weight_norm or remove_spectral_norm."
        )
    return found


def entry(content: Mapping[Any, Any], key: str) -> Any:
    """What a key names: an entry, or those whose names begin with it, here or in the one mapping inside with a network."""
    where = content
    for _ in range(DEEPEST):
        if isinstance(key, Hashable) and key in where:
            return where[key]
        if inside := {name: value for name, value in where.items() if str(name).startswith(f"{key}.")}:
            return {name.removeprefix(f"{key}."): value for name, value in inside.items()}
        inner = [value for name, value in where.items() if holds_weights(name, value)]
        if len(inner) != 1:
            break
        (where,) = inner
    raise ValueError(f"key: expected one of {listed(content)}, got {key!r}.")


def is_weight(name: Any, value: Any) -> bool:
    """Whether an entry looks like part of a network; a checkpoint's best score is a tensor without axes."""
    known = place(str(name))[1] or not BESIDES.search(str(name))
    return isinstance(value, Tensor) and value.ndim > 0 and bool(known)


def holds_weights(name: Any, value: Any) -> bool:
    """Whether an entry is a mapping with a network somewhere inside; optimizers count their parameters, not name them.

    Each mapping is looked into once, so that neither those that hold themselves nor a thousand levels stop it.
    """
    pending, seen = [(name, value)], set()
    while pending:
        name, value = pending.pop()
        if not isinstance(value, Mapping) or "param_groups" in value or BESIDES.search(str(name)):
            continue
        if id(value) in seen or not all(isinstance(inner, str) for inner in value):
            continue
        if any(is_weight(inner, one) for inner, one in value.items()):
            return True
        seen.add(id(value))
        pending += value.items()
    return False


def is_counter(name: Any, tensor: Tensor) -> bool:
    """Whether something is a tensor that counts batches or steps and no weight."""
    if not isinstance(tensor, Tensor):
        return False
    whole = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
    return whole and (tensor.ndim == 0 or str(name).endswith("num_batches_tracked"))


def described(content: Any) -> str:
    if isinstance(content, Tensor):
        return f"one tensor of shape {tuple(content.shape)}"
    if isinstance(content, Mapping):
        return f"a mapping of {listed(content)}" if content else "an empty mapping"
    if isinstance(content, (list, tuple)):
        return f"a {type(content).__name__} of {len(content)}"
    return f"a value of type {type(content).__name__}"


def check_floating(tensors: Mapping[str, Any]) -> None:
    """Check that tensors hold floating-point numbers, all of them.

    Raises:
        ValueError: Names those that do not.
    """
    if wrong := [f"{name} of type {type(one).__name__}" for name, one in tensors.items() if not isinstance(one, Tensor)]:
        raise ValueError(f"expected tensors, found {listed(wrong)}; use torch.from_numpy or torch.tensor.")
    if wrong := [f"{name} of {tensor.dtype}" for name, tensor in tensors.items() if not tensor.is_floating_point()]:
        raise ValueError(
            f"expected floating-point weights, found {listed(wrong)}; dequantize or convert them "
            "first, or where they are constants of their class give an instance of it as module=…."
        )
    if wrong := [name for name, tensor in tensors.items() if tensor.layout != torch.strided or tensor.is_meta]:
        raise ValueError(f"expected dense tensors that hold numbers, found sparse or meta ones: {listed(wrong)}.")
