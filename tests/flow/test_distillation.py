"""Distillation: the student starts as its teacher, its loss vanishes at the teacher's own points, and jumps get better."""

from __future__ import annotations

import math

import pytest
import torch

from wflib.config import load_settings
from wflib.flow import FlowTrainer, Guidance, diffusion_of, distill, integrate, load_flow, log_likelihood, sample, save_flow
from wflib.flow.distillation import jump_loss, student_of
from wflib.flow.fields import Asked
from wflib.models import FlowModel
from wflib.rng import generator
from wflib.storage import ArtifactError

GEOMETRIES = pytest.mark.parametrize("geometry", ["euclidean", "normalized", "geometric"])


@pytest.fixture
def teacher(make_flow, training_config):
    def make(geometry: str):
        flow, zoo = make_flow(geometry)
        return FlowTrainer(flow, zoo, training_config(iterations=150, batch_size=32, learning_rate=0.003)).run()

    return make


@GEOMETRIES
def test_a_new_student_is_its_teacher_for_every_step(make_flow, randomized, geometry):
    flow, _ = make_flow(geometry)
    randomized(flow.network)
    student = student_of(flow)
    x, t = flow.prior.sample(4, generator(0, "x")), torch.full((4,), 0.4)
    for span in (0.1, 0.6):
        torch.testing.assert_close(student.velocity(x, t, span=torch.full((4,), span)), flow.velocity(x, t))


def test_a_student_is_asked_as_its_teacher_is(make_flow, randomized):
    flow, zoo = make_flow(condition="step")
    randomized(flow.network)
    flow.condition.fit(zoo.step.float())
    student = student_of(flow)
    x, t, span = flow.prior.sample(4, generator(0, "x")), torch.full((4,), 0.4), torch.full((4,), 0.5)
    early, late = (torch.full((4,), figure) for figure in (zoo.step.min().item(), zoo.step.max().item()))
    for figure in (early, late, torch.full((4,), math.nan)):
        torch.testing.assert_close(student.velocity(x, t, figure, span), flow.velocity(x, t, figure))
    assert not torch.allclose(student.velocity(x, t, early, span), student.velocity(x, t, late, span), atol=1e-3)


def test_a_student_of_a_conditioned_flow_learns_draws_as_the_zoo_has_them(make_flow, training_config):
    flow, zoo = make_flow(condition="step")
    flow = FlowTrainer(flow, zoo, training_config(iterations=150, batch_size=32, learning_rate=0.003)).run()
    student = distill(flow, 0, trajectories=300, teacher_steps=32, iterations=300, batch_size=32, bfloat16=False)
    far = sample(flow, 64, 32, generator(1, "fresh"))
    theirs, ours = ((sample(one, 64, 1, generator(1, "fresh")) - far).square().sum(1).mean() for one in (flow, student))
    assert ours < 0.9 * theirs


@GEOMETRIES
def test_the_loss_is_zero_where_the_jump_already_leads(make_flow, randomized, geometry):
    flow, _ = make_flow(geometry)
    randomized(flow.network)
    student = student_of(flow)
    path = integrate(flow, flow.prior.sample(4, generator(0, "x")), 4, keep=True)
    t, span = torch.full((4,), 0.25), torch.full((4,), 0.25)
    assert jump_loss(student, path[1], path[2], t, span).item() < 1e-6
    assert jump_loss(student, path[1], path[3], t, span).item() > 1e-3


@GEOMETRIES
def test_distilled_jumps_come_nearer_to_the_teacher(teacher, geometry):
    flow = teacher(geometry)
    student = distill(flow, 0, trajectories=300, teacher_steps=32, iterations=300, batch_size=32, bfloat16=False)
    far = sample(flow, 64, 32, generator(1, "fresh"))
    for jumps in (1, 2):
        theirs = (sample(flow, 64, jumps, generator(1, "fresh")) - far).square().sum(1).mean()
        ours = (sample(student, 64, jumps, generator(1, "fresh")) - far).square().sum(1).mean()
        assert ours < 0.9 * theirs


def test_a_student_survives_its_file(teacher, tmp_path):
    student = distill(teacher("euclidean"), 0, trajectories=16, teacher_steps=4, iterations=3, batch_size=4)
    save_flow(tmp_path / "flow.safetensors", student)
    loaded = load_flow(tmp_path / "flow.safetensors")
    assert loaded.jumps
    assert loaded.metadata["distilled"]
    x, t = loaded.prior.sample(3, generator(0, "x")), torch.zeros(3)
    torch.testing.assert_close(Asked(loaded, span=0.5).velocity(x, t), Asked(student, span=0.5).velocity(x, t))


def test_a_student_is_kept_beside_its_teacher(teacher, make_flow, tmp_path):
    flow, path = teacher("geometric"), tmp_path / "flow.safetensors"
    student = distill(flow, 0, trajectories=16, teacher_steps=4, iterations=3, batch_size=4)
    save_flow(path, flow, student)
    for jumps, saved in ((False, flow), (True, student)):
        loaded = load_flow(path, jumps=jumps)
        assert (loaded.jumps, loaded.metadata.get("distilled", False)) == (jumps, jumps)
        assert loaded.state_dict().keys() == saved.state_dict().keys()
        assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in saved.state_dict().items())
    save_flow(path, student)  # one by itself
    assert load_flow(path).jumps
    assert load_flow(path, jumps=True).jumps
    save_flow(path, flow)
    with pytest.raises(ArtifactError, match=r"flow\.safetensors: expected a flow with a student .*distillation_iterations"):
        load_flow(path, jumps=True)
    for other in (flow, student_of(make_flow("normalized")[0])):
        with pytest.raises(ValueError, match="expected a student that was distilled from this flow"):
            save_flow(path, flow, other)


def test_a_flow_model_draws_by_the_jumps_of_its_student(teacher):
    flow = teacher("euclidean")
    student = distill(flow, 0, trajectories=16, teacher_steps=4, iterations=3, batch_size=4)
    jumping = ["sample.solver=euler", "sample.jumps=2", "training.distillation_iterations=1"]
    config = load_settings(changes=[*jumping, "sample.polish_steps=0"]).sample
    drawn = FlowModel(student, config).draw(5, generator(0, "draw"))
    expected = student.coordinates.decode_state(sample(student, 5, 2, generator(0, "draw")))
    assert torch.equal(drawn.flat, expected.flat)
    with pytest.raises(ValueError, match=r"sample\.jumps: 2 needs a distilled flow"):
        FlowModel(flow, config).draw(5, generator(0, "draw"))


def test_the_same_seed_gives_the_same_student(teacher):
    flow = teacher("euclidean")
    first, again, other = (
        distill(flow, seed, trajectories=16, teacher_steps=4, iterations=3, batch_size=4).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_what_cannot_be_distilled_is_refused(make_flow):
    flow, _ = make_flow()
    with pytest.raises(ValueError, match="must all divide"):
        distill(flow, 0, teacher_steps=6)
    with pytest.raises(ValueError, match="not distilled before"):
        student_of(student_of(flow))


def test_a_student_refuses_what_needs_a_velocity(make_flow, zoo):
    student = student_of(make_flow()[0])
    x = student.coordinates.encode(zoo.networks)[:2]
    for ask in (lambda: log_likelihood(student, student.prior, x), lambda: integrate(student, x, 2)):
        with pytest.raises(ValueError, match="knows jumps, not a velocity"):
            ask()
    with pytest.raises(ValueError, match="knows jumps, not a velocity"):
        Guidance(student, lambda *_: x.sum(1), 0.1, point="end-point")(x, torch.zeros(2))
    for solver in ("heun", "rk4", "dopri5"):
        with pytest.raises(ValueError, match="choose solver: euler"):
            sample(student, 2, 2, generator(0, "s"), solver=solver)
    with pytest.raises(ValueError, match="no velocity, and so no score"):
        diffusion_of(student, 1.0, generator(0, "n"))
    assert torch.isfinite(sample(student, 2, 4, generator(0, "s"))).all()


def test_a_student_of_other_widths_draws(make_flow, randomized):
    flow, _ = make_flow("geometric")
    randomized(flow.network)
    wide = student_of(flow).with_widths({"hidden1": 9})
    assert wide.jumps
    assert sample(wide, 3, 2, generator(0, "s")).shape == (3, wide.architecture.dimension)
