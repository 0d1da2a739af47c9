"""Training: couplings' marginals, every geometry and loss, resuming, files."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.cases import incoming
from wflib.flow import Flow, FlowTrainer, PairSource, load_flow, sample, save_flow
from wflib.networks import Networks
from wflib.rng import generator
from wflib.storage import ArtifactError, load_artifact, save_artifact
from wflib.symmetry import permute

GEOMETRIES = ("euclidean", "normalized", "geometric")


def parameters(flow) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in flow.network.parameters()])


def test_initialization_coupling_pairs_a_network_with_its_own_start(make_flow):
    flow, zoo = make_flow(coupling="initialization")
    x_0, x_1 = PairSource(flow, zoo).draw(50, generator(0, "pairs"))
    everyone, starts = zoo.networks.flat, zoo.initial_of(torch.arange(len(zoo))).flat
    index = torch.cdist(x_1, everyone).argmin(1)
    assert torch.equal(everyone[index], x_1)
    assert torch.allclose(starts[index], x_0, atol=1e-6)
    unpermuted = zoo.architecture.flatten(
        {name: tensor[zoo.trajectory[index]] for name, tensor in zoo.initial.weights.items()}
    )
    assert not torch.allclose(unpermuted, x_0, atol=1e-3)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_initializations_are_draws_from_the_prior(make_flow, geometry):
    flow, zoo = make_flow(geometry, coupling="initialization")
    initial = 0.5 * torch.randn(20_000, zoo.initial.architecture.dimension, generator=generator(0, "initial"))
    ours = flow.prior.from_initialization(initial, 0.5, generator(0, "fresh"))
    theirs = flow.prior.sample(20_000, generator(0, "prior"))
    assert torch.allclose(ours.mean(0), theirs.mean(0), atol=0.03)
    assert torch.allclose(ours.std(0), theirs.std(0), rtol=0.05)
    assert torch.allclose(flow.geometry.manifold.projx(ours), ours, atol=1e-6)
    if geometry != "euclidean":
        norms = incoming(flow.architecture.layers[0], flow.architecture.unflatten(ours), flow.architecture.norm).norm(dim=-1)
        assert torch.allclose(norms, torch.ones_like(norms), atol=1e-5)


def test_canonical_prior_has_the_widths_of_canonical_initializations(make_flow):
    flow, zoo = make_flow("geometric")
    architecture = zoo.initial.architecture
    initial = architecture.unflatten(0.5 * torch.randn(5_000, architecture.dimension, generator=generator(0, "initial")))
    expected = flow.coordinates.encode(Networks(architecture, initial))
    found = flow.prior.sample(5_000, generator(0, "prior"))
    for name, where in flow.architecture.slices.items():
        if name == "log_scale":  # narrow layers scatter more than the large-width formula says
            ratio = found[:, where].std() / expected[:, where].clamp(-3, 3).std()
            assert 0.4 < ratio < 2.5, name


def test_unknown_initial_weights_are_an_error(make_flow):
    flow, zoo = make_flow(coupling="initialization")
    with pytest.raises(ValueError, match="independent or ot"):
        PairSource(flow, replace(zoo, initial=None))


def test_ot_shortens_paths_and_keeps_the_batch(make_flow):
    lengths = {}
    for coupling in ("independent", "ot"):
        flow, zoo = make_flow("geometric", coupling=coupling)
        x_0, x_1 = PairSource(flow, zoo).draw(32, generator(0, "pairs"))
        lengths[coupling] = flow.geometry.manifold.dist(x_0, x_1).square().mean()
        lengths[f"{coupling} points"] = x_0.sum(0)
    assert lengths["ot"] < lengths["independent"]
    assert torch.allclose(lengths["ot points"], lengths["independent points"], atol=1e-4)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("loss", ["standardized", "function", "gauss-newton", "mean-squared"])
@pytest.mark.parametrize("kind", ["neuron-tokens", "relational-transformer"])
def test_training_lowers_the_loss(make_flow, training_config, dataset, geometry, loss, kind):
    flow, zoo = make_flow(geometry, coupling="initialization", kind=kind)
    trainer = FlowTrainer(flow, zoo, training_config(loss=loss, iterations=60, validate_every=20), dataset.train)
    batch = trainer.draw(trainer.pairs, 64, generator(0, "batch"))
    before = trainer.loss(batch).item()
    trainer.run()
    assert trainer.loss(batch).item() < 0.97 * before
    drawn = sample(flow, 5, 3, generator(0, "s"))
    assert torch.isfinite(drawn).all()
    assert torch.allclose(flow.geometry.manifold.projx(drawn), drawn, atol=1e-5)


def test_noise_keeps_curved_paths_on_the_manifold(make_flow, training_config):
    flow, zoo = make_flow("geometric", path_noise=0.1)
    trainer = FlowTrainer(flow, zoo, training_config())
    x_t = trainer.draw(trainer.pairs, 8, generator(0, "b")).x_t
    assert torch.allclose(flow.geometry.manifold.projx(x_t), x_t, atol=1e-5)


def test_a_resumed_run_ends_in_the_numbers_of_an_unbroken_one(make_flow, training_config, tmp_path):
    whole, zoo = make_flow(coupling="initialization")
    unbroken = FlowTrainer(whole, zoo, training_config())
    unbroken.run()
    FlowTrainer(make_flow(coupling="initialization")[0], zoo, training_config(), None, tmp_path).run(stop_at=9)
    resumed_flow, _ = make_flow(coupling="initialization")
    resumed = FlowTrainer(resumed_flow, zoo, training_config(), None, tmp_path)
    started = []
    resumed.run(lambda iteration, *_: started.append(iteration))
    assert started[0] == 9, "the checkpoint of iteration 8 was not used"
    assert torch.equal(parameters(resumed_flow), parameters(whole))
    assert 0 == unbroken.earlier_seconds < resumed.earlier_seconds < resumed.seconds
    for ours, theirs in zip(resumed.history, unbroken.history, strict=True):
        assert ours["loss"] == theirs["loss"]
    resumed.discard_checkpoints()
    assert not tmp_path.exists()


def test_seeds(make_flow, training_config):
    ends = []
    for seed in (0, 0, 1):
        flow, zoo = make_flow()
        FlowTrainer(flow, zoo, training_config(seed=seed)).run()
        ends.append(parameters(flow))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_divergence_is_an_error(make_flow, training_config):
    flow, zoo = make_flow()
    trainer = FlowTrainer(flow, zoo, training_config())
    with torch.no_grad():
        next(flow.network.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match=r"lower training\.learning_rate"):
        trainer.run()


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_flow_files(make_flow, training_config, dataset, tmp_path, geometry):
    from wflib.flow import input_basis

    flow, zoo = make_flow(geometry, basis=input_basis(dataset.train.inputs)[0])
    FlowTrainer(flow, zoo, training_config()).run()
    path = tmp_path / "flow.safetensors"
    save_flow(path, flow)
    loaded = load_flow(path)
    assert torch.equal(sample(loaded, 4, 3, generator(0, "s")), sample(flow, 4, 3, generator(0, "s")))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="train-flow"):
        load_flow(path)


def test_geometry_and_form_must_fit(make_flow, canonical_zoo):
    from wflib.flow import Coordinates

    flow, _ = make_flow()
    with pytest.raises(ValueError, match="ordinary"):
        Flow(flow.config, flow.velocity_config, Coordinates(canonical_zoo.architecture), 0.5)


def test_an_equivariant_flow_does_not_see_alignment(make_flow, randomized):
    """With an independent coupling the loss of a zoo is that of any permuted copy, point by point."""
    flow, zoo = make_flow()
    randomized(flow.network)
    flow.double()
    x = zoo.networks.flat[:6].double()
    indices = {name: p[:6].flip(1) for name, p in zoo.permutations.items()}

    def act(flat):
        return permute(Networks.from_flat(zoo.architecture, flat), indices).flat

    t = torch.linspace(0, 0.9, 6, dtype=torch.float64)
    error = (flow.predict(x, t)[0] - x).square().sum(1)
    permuted = (flow.predict(act(x), t)[0] - act(x)).square().sum(1)
    assert torch.allclose(error, permuted, rtol=1e-10)


@pytest.mark.parametrize("field", ["flow", "velocity", "architecture", "initialization", "jumps"])
@pytest.mark.parametrize("value", [None, [], "{}"])
def test_descriptions_of_another_kind_are_refused_by_name(make_flow, tmp_path, field, value):
    path = tmp_path / "flow.safetensors"
    save_flow(path, make_flow()[0])
    tensors, metadata = load_artifact(path, "flow", "train-flow")
    save_artifact(path, "flow", tensors, metadata | {field: value})
    with pytest.raises(ArtifactError, match=r"flow\.safetensors: the flow's tensors do not fit its description"):
        load_flow(path)


@pytest.mark.parametrize("initialization", [0.0, -0.5, float("nan"), float("inf")])
def test_a_prior_has_a_width(make_flow, initialization):
    flow, _ = make_flow()
    with pytest.raises(ValueError, match="initialization must be a positive number"):
        Flow(flow.config, flow.velocity_config, flow.coordinates, initialization)


def test_a_basis_of_other_inputs_is_refused(make_flow, tmp_path):
    path = tmp_path / "flow.safetensors"
    save_flow(path, make_flow(basis=torch.eye(5))[0])
    tensors, metadata = load_artifact(path, "flow", "train-flow")
    save_artifact(path, "flow", tensors | {"basis": torch.eye(4)}, metadata)
    with pytest.raises(ArtifactError, match=r"expected a basis \(5, 5\) of the inputs, got \(4, 4\)"):
        load_flow(path)
