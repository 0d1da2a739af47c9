"""Files of flows, and of the students that were distilled from them."""

from __future__ import annotations

from pathlib import Path

import torch

from wflib.architecture import Architecture
from wflib.config import FlowConfig, VelocityConfig
from wflib.flow.coordinates import Coordinates
from wflib.flow.flow import Flow
from wflib.storage import ArtifactError, load_artifact, require_same_kinds, rerun, save_artifact
from wflib.tasks import Split

__all__ = ["load_flow", "save_flow"]

STATE, STUDENT = "state.", "student."
"""What the names of a flow's tensors begin with, and those of its student's."""


def save_flow(path: str | Path, flow: Flow, student: Flow | None = None) -> None:
    """Write a flow artifact that :func:`load_flow` needs nothing else to read.

    Args:
        path: File to write.
        flow: What to keep.
        student: What :func:`~wflib.flow.distill` has made of the flow, kept in the same file; None for none.

    Raises:
        ValueError: The student is none, or one of another flow.
    """
    tensors = {f"{STATE}{name}": tensor for name, tensor in flow.state_dict().items()}
    if student is not None:
        alike = (student.architecture, student.config, student.velocity_config, student.initialization)
        if not student.jumps or alike != (flow.architecture, flow.config, flow.velocity_config, flow.initialization):
            raise ValueError("save_flow: expected a student that was distilled from this flow, got another one.")
        tensors |= {f"{STUDENT}{name}": tensor for name, tensor in student.state_dict().items()}
    if flow.coordinates.basis is not None:
        tensors["basis"] = flow.coordinates.basis
    metadata = {
        "flow": flow.config.model_dump(),
        "velocity": flow.velocity_config.model_dump(),
        "architecture": flow.architecture.to_json(),
        "shares": dict(flow.coordinates.shares),
        "initialization": flow.initialization,
        "jumps": flow.jumps,
        **flow.metadata,
    }
    save_artifact(path, "flow", tensors, metadata)


def load_flow(path: str | Path, device: str | torch.device = "cpu", jumps: bool = False) -> Flow:
    """Read a flow artifact.

    Args:
        path: File to read.
        device: Where to put it.
        jumps: Whether to read the student that was distilled from the flow and is kept beside it, for samplers of few steps.
            Of a file that holds nothing but a student it is that one in any case.

    Returns:
        The flow, or the student, in evaluation mode.

    Raises:
        ArtifactError: The file is damaged, no flow, its tensors do not fit its description, or it has no student.
    """
    tensors, metadata = load_artifact(path, "flow", stage="train-flow")
    student = {name: tensors.pop(name) for name in list(tensors) if name.startswith(STUDENT)}
    if jumps and not metadata.get("jumps"):
        if not student:
            raise ArtifactError(
                f"{path}: expected a flow with a student for jumps, found none; set training.distillation_iterations "
                f"above 0 and {rerun('train-flow')}, or draw without jumps."
            )
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(STATE)}
        tensors |= {f"{STATE}{name.removeprefix(STUDENT)}": tensor for name, tensor in student.items()}
        metadata |= {"jumps": True, "distilled": True}
    try:
        config = FlowConfig(**{"renewal": 0.0, **metadata.pop("flow")})
        architecture = Architecture.from_json(metadata.pop("architecture"))
        coordinates = Coordinates(architecture, tensors.pop("basis", None), metadata.pop("shares", {}))
        velocity = VelocityConfig(**{"gradient_examples": 0, **metadata.pop("velocity")})
        examples = None
        if velocity.gradient_examples:
            examples = Split(*(tensors[f"{STATE}loss_gradient.{name}"] for name in ("inputs", "targets")))
        initialization, distilled = metadata.pop("initialization"), metadata.pop("jumps")
        if isinstance(initialization, dict):
            initialization = {name: tuple(moments) for name, moments in initialization.items()}
        flow = Flow(config, velocity, coordinates.to(device), initialization, metadata, distilled, examples)
        state = {name.removeprefix(STATE): tensor for name, tensor in tensors.items()}
        require_same_kinds(flow.state_dict(), state)
        flow.load_state_dict(state)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ArtifactError(
            f"{path}: the flow's tensors do not fit its description ({error}); {rerun('train-flow')}."
        ) from error
    return flow.to(device).eval()
