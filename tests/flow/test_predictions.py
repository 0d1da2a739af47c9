"""What a flow predicts, and how its error is measured: end points or velocities, tangent or geodesic distance."""

from __future__ import annotations

import pytest
import torch

from wflib.flow import FlowTrainer, integrate, load_flow, sample, save_flow
from wflib.flow.loss import Batch
from wflib.flow.objective import flow_matching_error, weighted_mean_square
from wflib.rng import generator
from wflib.testing import assert_equivariant

GEOMETRIES = pytest.mark.parametrize("geometry", ["euclidean", "normalized", "geometric"])


@GEOMETRIES
def test_velocity_predictions_are_tangent_equivariant_and_lead_to_their_end_point(make_flow, randomized, geometry):
    flow, _ = make_flow(geometry, prediction="velocity")
    randomized(flow.network)
    x, t = flow.prior.sample(4, generator(0, "x")), torch.tensor([0.1, 0.4, 0.7, 0.9])
    velocity = flow.velocity(x, t)
    torch.testing.assert_close(flow.geometry.tangent(x, velocity), velocity, rtol=1e-4, atol=1e-5)
    end = flow.geometry.project_prediction(flow.geometry.step(x, (1 - t)[:, None] * velocity))
    torch.testing.assert_close(flow.predict(x, t)[0], end, rtol=1e-4, atol=1e-4)
    assert_equivariant(lambda p: flow.velocity(p, t), flow.architecture, x, generator(0, "p"), 1e-3)


@GEOMETRIES
@pytest.mark.parametrize("prediction", ["end-point", "velocity"])
def test_a_prediction_of_zero_has_a_velocity(make_flow, geometry, prediction):
    """An untrained flow's Gaussian model and field are zero at t = 0, where no point of a sphere is nearest."""
    flow, _ = make_flow(geometry, prediction=prediction)
    assert torch.isfinite(sample(flow, 4, 3, generator(0, "s"))).all()


@GEOMETRIES
def test_without_preconditioning_the_network_itself_predicts_the_end(
    make_flow, randomized, training_config, tmp_path, geometry
):
    plain, zoo = make_flow(geometry, preconditioning="none")
    usual, _ = make_flow(geometry)
    before, after = [], []
    for flow, losses in ((plain, after), (usual, before)):
        trainer = FlowTrainer(flow, zoo, training_config(loss="mean-squared", iterations=40))
        losses.append(trainer.loss(trainer.validation).item())
        trained = trainer.run()
        losses.append(trainer.loss(trainer.validation).item())
    assert after[0] > before[0]  # a network that has learned nothing adds to the Gaussian model there, and to zero here
    assert after[1] < 0.96 * after[0]
    randomized(trained.network)
    randomized(plain.network)
    x, t = plain.prior.sample(4, generator(0, "x")), torch.tensor([0.1, 0.4, 0.7, 0.9])
    by_hand = plain.geometry.project_prediction(plain.network(x, t, None, None))
    torch.testing.assert_close(plain.predict(x, t)[0], by_hand)
    torch.testing.assert_close(plain.predict(x, t)[1], torch.ones_like(x))
    assert not torch.allclose(trained.predict(x, t)[0], by_hand)
    save_flow(tmp_path / "flow.safetensors", plain)
    torch.testing.assert_close(load_flow(tmp_path / "flow.safetensors").predict(x, t)[0], by_hand)


def test_what_a_plain_network_does_not_predict_is_refused(make_flow):
    with pytest.raises(ValueError, match="preconditioning: none needs directions: 0, got 2"):
        make_flow(preconditioning="none", directions=2, basis=torch.eye(5))


def test_in_flat_space_both_predictions_have_the_same_standardized_loss(make_flow, training_config):
    losses = {}
    for prediction in ("end-point", "velocity"):
        flow, zoo = make_flow(prediction=prediction)
        trainer = FlowTrainer(flow, zoo, training_config())
        losses[prediction] = trainer.loss(trainer.validation).item()
    assert losses["end-point"] == pytest.approx(losses["velocity"], rel=1e-4)


def test_plain_velocity_loss_is_the_flow_matching_loss(make_flow, training_config):
    flow, zoo = make_flow(prediction="velocity")
    trainer = FlowTrainer(flow, zoo, training_config(loss="mean-squared"))
    x_0, x_1 = trainer.pairs.draw(16, generator(0, "pairs"))
    t = torch.full((16,), 0.4)
    x_t = flow.geometry.interpolate(x_0, x_1, t)
    expected = (flow.velocity(x_t, t) - (x_1 - x_0)).square().mean()
    assert trainer.loss(Batch(x_t, x_1, t)).item() == pytest.approx(expected.item(), rel=1e-4)


@GEOMETRIES
def test_velocity_flows_learn(make_flow, training_config, geometry):
    flow, zoo = make_flow(geometry, prediction="velocity")
    trainer = FlowTrainer(flow, zoo, training_config(iterations=160, batch_size=32, ema_decay=0.9))
    # Pairs of training networks: of four held-out ones so small a zoo teaches little.
    pairs = trainer.draw(trainer.pairs, 512, generator(0, "pairs"))
    before = trainer.loss(pairs).item()
    trainer.run()
    after = trainer.loss(pairs).item()
    assert after < 0.985 * before
    assert torch.isfinite(sample(flow, 4, 5, generator(0, "s"))).all()


def test_the_geodesic_error_is_the_squared_distance(make_flow):
    flow, _ = make_flow("geometric")
    geometry = flow.geometry
    x_t, x_1, end = (flow.prior.sample(6, generator(seed, "x")) for seed in range(3))
    loss = weighted_mean_square(flow_matching_error(geometry, x_t, x_1, end, "geodesic"), None, None)
    expected = geometry.squared_distances(end, x_1).diagonal().mean() / x_1.shape[1]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    tangent = weighted_mean_square(flow_matching_error(geometry, x_t, x_1, end, "tangent"), None, None)
    assert abs(tangent.item() / loss.item() - 1) > 0.01


@pytest.mark.parametrize("geometry", ["euclidean", "normalized"])
def test_on_straight_paths_both_distances_are_one(make_flow, geometry):
    flow, _ = make_flow(geometry)
    x_t, x_1, end = (flow.prior.sample(6, generator(seed, "x")) for seed in range(3))
    found = [
        weighted_mean_square(flow_matching_error(flow.geometry, x_t, x_1, end, kind), None, None).item()
        for kind in ("tangent", "geodesic")
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_the_geodesic_loss_trains(make_flow, training_config):
    flow, zoo = make_flow("geometric")
    trainer = FlowTrainer(flow, zoo, training_config(iterations=80, batch_size=32, distance="geodesic"))
    before = trainer.validation_loss()
    flow = trainer.run()
    assert trainer.history[-1]["validation_loss"] < before
    assert torch.isfinite(integrate(flow, flow.prior.sample(4, generator(0, "s")), 5)).all()


@pytest.mark.parametrize("loss", ["standardized", "function", "gauss-newton"])
@pytest.mark.parametrize(
    ("geometry", "prediction", "unmoved"),
    [
        ("euclidean", "end-point", True),
        ("euclidean", "velocity", True),
        ("normalized", "velocity", True),
        ("geometric", "velocity", True),
        ("normalized", "end-point", False),
    ],
)
def test_weightings_leave_the_mean_velocity_alone_unless_predictions_are_bound_to_spheres(
    make_flow, training_config, dataset, monkeypatch, geometry, prediction, unmoved, loss
):
    flow, zoo = make_flow(geometry, prediction=prediction)
    space = flow.geometry
    trainer = FlowTrainer(flow, zoo, training_config(loss=loss), dataset.train)
    x_1, t = trainer.pairs.draw(6, generator(0, "targets"))[1], torch.full((6,), 0.4)
    x_t = space.interpolate(flow.prior.sample(1, generator(0, "start")), x_1[:1], t[:1]).expand_as(x_1).contiguous()
    scale = flow.preconditioner(t).output_scale
    mean = space.displacement(x_t, x_1).mean(0, keepdim=True)
    best = mean if prediction == "velocity" else space.project_prediction(x_1.mean(0, keepdim=True))

    def slope(at: torch.Tensor) -> float:
        """Length of the expected loss's gradient, six targets sharing x_t, along directions that predictions can go."""
        free, total = at.clone().requires_grad_(), 0.0

        def predicted(*_):
            shown = free if prediction == "velocity" else space.project_prediction(free)
            return shown.expand_as(x_1), scale

        monkeypatch.setattr(flow, "displacement" if prediction == "velocity" else "predict", predicted)
        random = generator(0, "loss")
        for _ in range(8):
            noise, examples = trainer.loss.draw(x_t[:1], random)
            noise = None if noise is None else noise.expand_as(x_1)
            found = torch.autograd.grad(trainer.loss(Batch(x_t, x_1, t, None, noise, examples)), free)[0]
            total = total + (space.tangent(x_t[:1], found) if prediction == "velocity" else found)
        return total.norm().item()

    elsewhere = slope(best + 0.1 * space.tangent(x_t[:1], torch.ones_like(best)))
    assert elsewhere > 0
    assert (slope(best) < 1e-3 * elsewhere) == unmoved
