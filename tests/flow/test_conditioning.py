"""Conditioned flows: dropout, one network for both fields, classifier-free guidance, and an answer that follows the wish."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from wflib.flow import (
    AS_IN_ZOO,
    Asked,
    Condition,
    FlowTrainer,
    load_flow,
    log_likelihood,
    network_figures,
    sample,
    save_flow,
    zoo_figures,
)
from wflib.networks import network_losses
from wflib.rng import generator


@pytest.fixture(params=["neuron-tokens", "relational-transformer", "pna"])
def conditioned(make_flow, randomized, request):
    flow, zoo = make_flow(condition="loss", kind=request.param)
    randomized(flow.network)
    return flow, zoo


def test_figures_are_the_networks_own(zoo, dataset):
    losses = network_figures(zoo.networks, dataset.train, "loss", chunk=7)
    torch.testing.assert_close(losses, network_losses(zoo.networks, dataset.train))
    accuracies = network_figures(zoo.networks, dataset.train, "accuracy", chunk=7)
    assert ((accuracies * len(dataset.train.inputs)).round() / len(dataset.train.inputs) - accuracies).abs().max() < 1e-6
    assert torch.corrcoef(torch.stack([losses, accuracies]))[0, 1] < -0.3


def test_a_step_is_no_figure_that_examples_say(zoo, dataset):
    with pytest.raises(ValueError, match="step is not measured on examples; choose loss or accuracy"):
        network_figures(zoo.networks, dataset.train, "step")


def test_a_condition_standardizes_the_zoo():
    figures = torch.rand(500, generator=generator(0, "f")) * 0.3 + 0.01
    for name, transform in (("loss", torch.log), ("accuracy", lambda value: value)):
        condition = Condition(name)
        condition.fit(figures)
        standard = condition(figures)
        assert abs(standard.mean()) < 0.01
        assert (transform(figures).argsort() == figures.argsort()).all()
        assert torch.corrcoef(torch.stack([standard, transform(figures)]))[0, 1] > 0.99
        assert condition(torch.tensor([math.nan])).isnan().all()
        with pytest.raises(ValueError, match="two networks or more, got 1"):
            condition.fit(figures[:1])


def test_figures_are_drawn_as_the_zoo_has_them():
    figures = torch.cat([torch.full((300,), 70.0), torch.full((100,), 140.0)])
    condition = Condition("step")
    condition.fit(figures)
    drawn = condition.draw(20_000, generator(0, "d"))
    assert set(drawn.tolist()) == {70.0, 140.0}  # figures of networks, nothing between them
    assert (drawn == 70).float().mean().item() == pytest.approx(0.75, abs=0.012)
    spread = torch.rand(50_000, generator=generator(0, "f")).square()
    condition.fit(spread)
    drawn = condition.draw(20_000, generator(0, "d"))
    levels = torch.linspace(0.05, 0.95, 10)
    torch.testing.assert_close(drawn.quantile(levels), spread.quantile(levels), rtol=0.05, atol=0.005)


def test_steps_are_a_figure_without_examples(make_flow, training_config):
    flow, zoo = make_flow(condition="step")
    trainer = FlowTrainer(flow, zoo, training_config(condition_dropout=0.0))
    assert torch.equal(zoo_figures(zoo, None, "step"), zoo.step.float())
    chosen, *_ = trainer.pairs.draw_chosen(50, generator(0, "b"))
    batch = trainer.draw(trainer.pairs, 50, generator(0, "b"))
    assert torch.equal(batch.condition, zoo.training_part.step[chosen].float())


def test_samples_as_the_zoo_are_samples_asked_one_by_one(conditioned):
    flow, _ = conditioned
    flow.condition.fit(torch.linspace(0.2, 2.0, 400))
    together = sample(flow, 6, 3, generator(0, "s"), condition=AS_IN_ZOO)
    random = generator(0, "s")
    flow.start.sample(6, random)
    asked = flow.condition.draw(6, random)
    assert asked.unique().numel() > 3
    torch.testing.assert_close(together, sample(flow, 6, 3, generator(0, "s"), condition=asked))
    assert not torch.allclose(together, sample(flow, 6, 3, generator(0, "s")), atol=1e-3)


def test_nobody_needs_to_ask_for_steps_as_the_zoo_has_them(make_flow, randomized):
    flow, zoo = make_flow(condition="step")
    randomized(flow.network)
    flow.condition.fit(zoo.step.float())
    unasked, as_in_zoo = (sample(flow, 6, 3, generator(0, "s"), condition=asked) for asked in (None, AS_IN_ZOO))
    assert torch.equal(unasked, as_in_zoo)
    assert not torch.allclose(unasked, sample(flow, 6, 3, generator(0, "s"), condition=math.nan), atol=1e-3)


def test_wishes_that_no_flow_understands_are_refused(make_flow):
    with pytest.raises(ValueError, match="None, as this flow has no condition, got 'zoo'"):
        sample(make_flow()[0], 3, 2, generator(0, "s"), condition=AS_IN_ZOO)
    with pytest.raises(ValueError, match="a number or zoo, got 'best'"):
        sample(make_flow(condition="loss")[0], 3, 2, generator(0, "s"), condition="best")


def test_the_field_depends_on_the_condition_and_nan_is_none(conditioned):
    flow, zoo = conditioned
    x, t = flow.coordinates.encode(zoo.networks)[:4], torch.full((4,), 0.5)
    any_of, none = flow.velocity(x, t), flow.velocity(x, t, torch.full((4,), math.nan))
    torch.testing.assert_close(any_of, none)
    low, high = (flow.velocity(x, t, torch.full((4,), figure)) for figure in (0.5, 1.5))
    assert (low - high).abs().max() > 1e-3
    assert (low - any_of).abs().max() > 1e-3


def test_an_unconditioned_flow_says_that_it_is_one(make_flow, zoo):
    flow, _ = make_flow()
    with pytest.raises(ValueError, match=r"flow\.condition: loss, accuracy or step"):
        sample(flow, 3, 2, generator(0, "s"), condition=0.1)


def test_conditions_that_do_not_fit_are_refused(make_flow):
    flow, _ = make_flow(condition="loss")
    with pytest.raises(ValueError, match="one condition or 5, one for each network, got 2"):
        sample(flow, 5, 2, generator(0, "s"), condition=torch.tensor([0.1, 0.2]))
    with pytest.raises(ValueError, match="condition_strength needs a condition"):
        sample(flow, 5, 2, generator(0, "s"), condition_strength=1.0)
    with pytest.raises(ValueError, match="at least one network"):
        sample(flow, 0, 2, generator(0, "s"))
    one, same = (sample(flow, 5, 2, generator(0, "s"), condition=figure) for figure in (0.3, torch.tensor([0.3])))
    assert torch.equal(one, same)


@pytest.mark.parametrize("geometry", ["euclidean", "geometric"])
def test_asked_flows_have_a_density_and_it_depends_on_the_wish(make_flow, randomized, geometry):
    flow, zoo = make_flow(geometry, condition="loss")
    randomized(flow.network)
    x = flow.coordinates.encode(zoo.networks)[:3]
    low, high, none = (log_likelihood(field, flow.prior, x, 4) for field in (Asked(flow, 0.3), Asked(flow, 2.0, 0.5), flow))
    assert torch.isfinite(torch.stack([low, high, none])).all()
    assert (low - high).abs().min() > 1e-3
    assert (low - none).abs().min() > 1e-3


def test_classifier_free_guidance_is_its_formula(conditioned):
    flow, zoo = conditioned
    x, t = flow.coordinates.encode(zoo.networks)[:4], torch.full((4,), 0.5)
    asked, any_of = flow.velocity(x, t, torch.full((4,), 0.7)), flow.velocity(x, t)
    torch.testing.assert_close(Asked(flow, 0.7, 0.0).velocity(x, t), asked)
    torch.testing.assert_close(Asked(flow, 0.7, 1.5).velocity(x, t), 2.5 * asked - 1.5 * any_of)


def test_every_sample_can_be_asked_for_its_own_figure(conditioned):
    flow, _ = conditioned
    figures = torch.tensor([0.5, 0.8, 1.1, 1.4, 1.7])
    together = sample(flow, 5, 3, generator(0, "s"), condition=figures, chunk=2)
    alone = sample(flow, 5, 3, generator(0, "s"), condition=1.1)
    torch.testing.assert_close(together[2], alone[2])
    assert not torch.allclose(together[0], alone[0])


def test_dropout_hides_its_share_of_conditions(make_flow, training_config, dataset):
    flow, zoo = make_flow(condition="loss")
    trainer = FlowTrainer(flow, zoo, training_config(condition_dropout=0.3), dataset.train)
    batch = trainer.draw(trainer.pairs, 2_000, generator(0, "b"))
    assert batch.condition.isnan().float().mean().item() == pytest.approx(0.3, abs=0.03)
    known = ~batch.condition.isnan()
    losses = network_losses(flow.coordinates.decode_state(batch.x_1[known]), dataset.train)
    torch.testing.assert_close(batch.condition[known], losses, rtol=1e-3, atol=1e-4)


def test_training_needs_examples_for_figures(make_flow, training_config):
    flow, zoo = make_flow(condition="loss")
    with pytest.raises(ValueError, match=r"flow\.condition: loss needs"):
        FlowTrainer(flow, zoo, training_config())


def test_a_trained_flow_answers_and_survives_its_file(make_flow, training_config, dataset, tmp_path, monkeypatch):
    """A zoo whose figure is seen in one weight: what is asked for must come."""
    flow, zoo = make_flow(condition="loss")
    wished = torch.linspace(-2, 2, len(zoo))[torch.randperm(len(zoo), generator=generator(0, "order"))]
    last = zoo.weights["linear3.bias"].clone()
    last[:, -1] = wished
    zoo = replace(zoo, networks=zoo.networks.with_weights({**zoo.weights, "linear3.bias": last}))
    monkeypatch.setattr(
        "wflib.flow.conditioning.network_figures",
        lambda networks, split, name: networks.weights["linear3.bias"][:, -1].exp(),
    )
    settings = training_config(iterations=400, batch_size=64, ema_decay=0.95, learning_rate=0.01)
    flow = FlowTrainer(flow, zoo, settings, dataset.train).run()
    asked = torch.linspace(-1.9, 1.9, 100)
    correlations = {}
    for name, figures in (("asked", asked.exp()), ("not asked", None)):
        x = sample(flow, 100, 16, generator(0, "s"), condition=figures)
        found = flow.coordinates.decode_state(x).weights["linear3.bias"][:, -1]
        correlations[name] = torch.corrcoef(torch.stack([found, asked]))[0, 1].item()
    assert correlations["asked"] > 0.8
    assert abs(correlations["not asked"]) < 0.3
    save_flow(tmp_path / "flow.safetensors", flow)
    again = sample(load_flow(tmp_path / "flow.safetensors"), 5, 4, generator(0, "s"), condition=2.0)
    torch.testing.assert_close(again, sample(flow, 5, 4, generator(0, "s"), condition=2.0))
