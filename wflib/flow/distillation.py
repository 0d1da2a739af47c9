"""Few-step sampling: a flow map distilled from a trained flow's own trajectories (thesis, section 8.1.3).

The student sees the length h of the step besides x_t and t, and predicts the mean velocity v of the step, so that one jump
x_{t+h} = exp_{x_t}(h v) does what many small steps of the teacher do. It starts as a copy of the teacher, whose velocity it
gives for every h, and is regressed on pairs of points of kept trajectories. The trajectories are deterministic, so unlike
the target of flow matching this one can be met exactly; no zoo is involved. After the trajectory distillation of
Luhman and Luhman (2021) and the flow maps of Boffi, Albergo and Vanden-Eijnden (2024).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from wflib.flow.flow import Flow
from wflib.flow.objective import weighted_mean_square
from wflib.flow.sampling import sample
from wflib.networks import require_finite
from wflib.rng import generator

__all__ = ["TRAJECTORIES", "distill", "jump_loss", "student_of"]

TRAJECTORIES = 2048
"""Of the teacher's, that a student learns from by default."""
EMA_DECAY = 0.999
WARMUP = 50


def student_of(flow: Flow, seed: int = 0) -> Flow:
    """A flow that also depends on the step's length, and so far gives the same velocity for all of them.

    Raises:
        ValueError: The flow is distilled already.
    """
    if flow.jumps:
        raise ValueError("distill: expected a flow that was not distilled before.")
    metadata = {**flow.metadata, "distilled": True}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        given = (flow.config, flow.velocity_config, flow.coordinates, flow.initialization, metadata)
        student = Flow(*given, jumps=True, examples=flow.examples)
    student.to(flow.preconditioner.mean_0)
    state, own = flow.state_dict(), student.state_dict()
    # The span comes after the scalars that the teacher sees.
    new = {name: value for name, value in own.items() if name not in state or value.shape != state[name].shape}
    assert all("time.scalars" in name for name in new)
    for name, value in new.items():
        if name in state:
            value[: len(state[name])] = state[name]
    student.load_state_dict(state | new)
    return student


def jump_loss(student: Flow, x_t: Tensor, x_s: Tensor, t: Tensor, span: Tensor, condition: Tensor | None = None) -> Tensor:
    """How far jumps from x_t miss x_s, t + h = s, in units of what the velocity's standardized error would be.

    Mean of |log(exp_{x_t}(h v), x_s) (1 − t) / (h o(t))|²: the standardized flow-matching loss of the mean velocity.

    Args:
        student: A flow with jumps.
        x_t: (batch, D).
        x_s: Where the teacher takes x_t, (batch, D).
        t: (batch,).
        span: h, (batch,).
        condition: What the teacher was asked for, (batch,), if it has a condition.

    Returns:
        A scalar.
    """
    displacement, scale = student.displacement(x_t, t, condition, span)
    share = (span / (1 - t))[:, None]
    reached = student.geometry.step(x_t, share * displacement.to(x_t.dtype))
    return weighted_mean_square(student.geometry.displacement(reached, x_s), scale * share, None)


def distill(
    flow: Flow,
    seed: int,
    trajectories: int = TRAJECTORIES,
    teacher_steps: int = 64,
    jumps: Sequence[int] = (1, 2, 4),
    iterations: int = 2000,
    batch_size: int = 64,
    learning_rate: float = 3e-4,
    bfloat16: bool = True,
    progress: Callable[[str, int, int, float], None] | None = None,
) -> Flow:
    """Train a student for samplers of few steps; of a teacher with a condition it learns draws with figures of the zoo.

    Args:
        flow: The teacher, trained.
        seed: Of the teacher's starting points and of batches.
        trajectories: How many are drawn from the teacher.
        teacher_steps: Its Euler steps; each of ``jumps`` must divide it.
        jumps: Numbers K of steps that the student shall be good for.
        iterations: Optimizer steps.
        batch_size: Pairs of points in each.
        learning_rate: At its highest; cosine decay.
        bfloat16: Whether the student computes in bfloat16 while training.
        progress: Called with what is done (``trajectories`` or ``training``), how much, of how much, and the last loss.

    Returns:
        The student; ``sample(student, n, K, …)`` draws with K jumps.

    Raises:
        ValueError: ``jumps`` do not divide ``teacher_steps``, a number is below one, the flow cannot be distilled, the
            teacher's trajectories or the loss ran to NaN or infinity.
    """
    counted = {
        "trajectories": trajectories,
        "teacher_steps": teacher_steps,
        "iterations": iterations,
        "batch_size": batch_size,
    }
    if wrong := [name for name, count in (*counted.items(), ("jumps", min(jumps, default=0))) if count < 1]:
        raise ValueError(
            f"distill: {wrong[0]} expected at least 1, got {list(jumps) if wrong[0] == 'jumps' else counted[wrong[0]]}."
        )
    if any(teacher_steps % count for count in jumps):
        raise ValueError(f"distill: {list(jumps)} must all divide the teacher's {teacher_steps} steps.")
    student, finest = student_of(flow, seed), math.lcm(*jumps)

    def drawn(count: int) -> None:
        if progress is not None:
            progress("trajectories", count, trajectories, math.nan)

    # Only points at multiples of the shortest jump are kept, chunk by chunk, so that memory stays bounded.
    random, kept = generator(seed, "distill", "trajectories"), list[Tensor]()
    figures = None if flow.condition is None else flow.condition.draw(trajectories, random)
    while (done := sum(map(len, kept))) < trajectories:
        count = min(256, trajectories - done)
        asked = None if figures is None else figures[done : done + count]
        path = sample(flow, count, teacher_steps, random, condition=asked, keep=True)
        kept.append(path[:: teacher_steps // finest].transpose(0, 1).cpu())
        drawn(sum(map(len, kept)))
    points = torch.cat(kept)
    require_finite(
        {"trajectory": points}, "distill: the teacher's draws", "train the flow again, or take more teacher_steps"
    )

    averaged, random = copy.deepcopy(student.network), generator(seed, "distill", "batches")
    optimizer = torch.optim.AdamW(student.network.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    counts = torch.tensor(jumps)
    student.train()
    for iteration in range(iterations):
        rate = learning_rate * min(1, (iteration + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * iteration / iterations))
        for group in optimizer.param_groups:
            group["lr"] = rate
        steps = counts[torch.randint(len(counts), (batch_size,), generator=random)]
        place = (torch.rand(batch_size, generator=random) * steps).long()
        rows = torch.randint(len(points), (batch_size,), generator=random)
        width = finest // steps
        x_t, x_s = (points[rows, (place + ahead) * width].to(flow.device) for ahead in (0, 1))
        t, span = (value.to(x_t) for value in (place / steps, 1 / steps))
        asked = None if figures is None else figures[rows.to(figures.device)].to(x_t)
        with torch.autocast(flow.device.type, torch.bfloat16, enabled=bfloat16):
            loss = jump_loss(student, x_t, x_s, t, span, asked)
        if not bool(torch.isfinite(loss)):
            raise ValueError(f"distill: loss is {loss.item()} at iteration {iteration + 1}; lower learning_rate.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.network.parameters(), 1.0)
        optimizer.step()
        decay = min(EMA_DECAY, (iteration + 1) / (iteration + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(averaged.parameters()), list(student.network.parameters()), 1 - decay)
        if progress is not None:
            progress("training", iteration + 1, iterations, loss.item())
    student.network = averaged
    return student.eval()
