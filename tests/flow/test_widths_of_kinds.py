"""Flows over networks of every kind, trained at one width, that draw networks of another."""

from __future__ import annotations

import pytest
import torch

from tests.flow.test_every_kind import GEOMETRIES, KINDS, settings, zoo_for
from wflib.architecture import cnn, resnet, vit
from wflib.flow import Coordinates, FlowTrainer, draw_networks, flow_for_zoo, load_flow, sample, save_flow
from wflib.rng import generator
from wflib.symmetry import pooling_index
from wflib.tasks import Dataset, Split
from wflib.testing import assert_equivariant
from wflib.zoo import Zoo, align_zoo, canonical_zoo, train_zoo

OTHER = {
    "cnn": ({"conv1": 6, "conv2": 5}, cnn((1, 4, 4), [6, 5], 2, pools=[2, 1])),
    "cnn with batch norm": ({"conv1": 2, "conv2": 7}, cnn((1, 4, 4), [2, 7], 2, norm="batch", pools=[2, 1])),
    "resnet": (
        {"stem.conv": 5, "block1.conv1": 5, "block2.conv1": 6, "block2.conv2": 6},
        resnet((1, 4, 4), [5, 6], 2),
    ),
    "vit": (
        {"patches": 6, "block1.attention.queries": 3, "block1.attention.values": 3, "block1.wide": 9},
        vit((1, 4, 4), 6, [9], 2),
    ),
}
INPUTS = torch.randn(5, 1, 4, 4, generator=generator(0, "inputs"))
over_kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def toy() -> Dataset:
    random = generator(0, "toy")

    def split(count: int) -> Split:
        inputs = torch.randn(count, 1, 4, 4, generator=random)
        return Split(inputs, (inputs[:, 0, :2].sum((1, 2)) > 0).long())

    return Dataset("toy", "classification", 2, split(48), split(16), split(16))


@pytest.fixture(scope="module")
def trained(toy) -> dict[tuple[str, str], Zoo]:
    found = {}
    for kind, architecture in KINDS.items():
        config = settings("euclidean")
        aligned = align_zoo(train_zoo(architecture, toy, config.zoo), config.align, toy)
        found[kind, "aligned"], found[kind, "canonical"] = aligned, canonical_zoo(aligned)
    return found


@over_kinds
@pytest.mark.parametrize(
    ("geometry", "velocity"), list(zip(GEOMETRIES, ["pna", "relational-transformer", "neuron-tokens"], strict=True))
)
def test_a_flow_trained_at_one_width_draws_networks_of_another(kind, geometry, velocity, trained, toy, tmp_path):
    zoo = zoo_for(trained, kind, geometry)
    seen = 8 if kind == "cnn with batch norm" else 0  # examples whose loss' gradient the network sees
    changes = (f"velocity.gradient_examples={seen}", "flow.coupling=independent", "training.loss=standardized")
    config = settings(geometry, f"velocity.kind={velocity}", *changes)
    flow = FlowTrainer(flow_for_zoo(config, zoo, toy.train), zoo, config.training, toy.train).run()
    same = flow.with_widths({group.name: group.size for group in flow.architecture.hidden_groups})
    assert torch.equal(sample(same, 3, 2, generator(0, "s")), sample(flow, 3, 2, generator(0, "s")))
    widths, expected = OTHER[kind]
    wide = flow.with_widths(widths)
    drawn = draw_networks(wide, 3, steps=3)
    assert drawn.architecture == expected
    assert torch.isfinite(drawn.module()(INPUTS)).all()
    save_flow(tmp_path / "flow.safetensors", wide)
    again = draw_networks(load_flow(tmp_path / "flow.safetensors"), 3, steps=3)
    assert all(torch.equal(again.weights[name], tensor) for name, tensor in drawn.weights.items())


@over_kinds
def test_wide_flows_do_not_know_neurons_apart(kind, trained, toy, randomized):
    zoo = zoo_for(trained, kind, "geometric")
    config = settings("geometric", "velocity.gradient_examples=0", "flow.coupling=independent")
    wide = randomized(flow_for_zoo(config, zoo, toy.train)).with_widths(OTHER[kind][0]).double().requires_grad_(False)
    x, t = wide.prior.sample(3, generator(0, "x")).double(), torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    assert_equivariant(lambda point: wide.velocity(point, t), wide.architecture, x, generator(0, "p"), 1e-8)
    slope = torch.linspace(0, 1, x.shape[1], dtype=torch.float64)
    with pytest.raises(ValueError, match="equivariant"):
        assert_equivariant(lambda point: wide.velocity(point, t) + slope, wide.architecture, x, generator(0, "p"), 1e-8)


@over_kinds
@pytest.mark.parametrize("canonical", [False, True])
def test_pools_do_not_depend_on_widths(kind, canonical):
    """The n-th pool holds the same tensor's entries, at the same fixed places, whatever the widths are."""
    narrow = KINDS[kind].canonical_form() if canonical else KINDS[kind]
    wide = narrow.with_widths(OTHER[kind][0])
    tensors, pools = {}, {}
    for name, architecture in (("narrow", narrow), ("wide", wide)):
        index = pooling_index(architecture)
        pools[name] = index.unique()
        tensors[name] = {tensor: index[where].unique() for tensor, where in architecture.slices.items()}
    assert torch.equal(pools["narrow"], pools["wide"])
    assert all(torch.equal(pool, tensors["wide"][name]) for name, pool in tensors["narrow"].items())
    # Pools of one coordinate each do depend on them.
    alone = [int(pooling_index(architecture, identities=True).max()) for architecture in (narrow, wide)]
    assert alone[0] != alone[1]


@over_kinds
def test_coordinates_of_other_widths(kind):
    wide = Coordinates(KINDS[kind].canonical_form()).with_widths(OTHER[kind][0])
    assert wide.architecture == OTHER[kind][1].canonical_form()
    with pytest.raises(ValueError, match="expected some of the hidden groups"):
        wide.with_widths({"output": 3})


def test_flows_that_know_neurons_apart_have_one_width(trained, toy):
    config = settings("euclidean", "velocity.identities=true", "velocity.gradient_examples=0", "flow.coupling=independent")
    flow = flow_for_zoo(config, trained["cnn", "aligned"], toy.train)
    with pytest.raises(ValueError, match=r"velocity\.identities"):
        flow.with_widths({"conv1": 6})
