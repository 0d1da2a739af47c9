"""Pictures show the weights that networks have, matched, and the neighbour that is nearest."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from tests.evaluation.families import ARCHITECTURE, runs, zoo
from wflib.architecture import cnn, mlp
from wflib.evaluation import PICTURE_SCHEMA, weight_pictures
from wflib.evaluation.pictures import filters
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import permute, random_permutations

FAMILY = zoo(12, 4, 2, 0)


def pictures(drawn: Networks, image: tuple[int, ...] | None = None) -> pd.DataFrame:
    training = FAMILY.training_part
    return weight_pictures(drawn, training, training.networks[:1], generator(0, "pictures"), image)


def test_a_permuted_copy_is_shown_beside_its_original_which_looks_the_same():
    original = FAMILY.training_part.networks[[7]]
    drawn = permute(original, random_permutations(ARCHITECTURE, 1, generator(0, "order")))
    table = pictures(drawn)
    assert list(table.columns) == list(PICTURE_SCHEMA)
    assert table["network"].unique().tolist() == ["zoo", "sample", "nearest"]
    assert table["tensor"].unique().tolist() == [f"linear{k}.weight" for k in (1, 2, 3)]
    shown = {name: part["value"].to_numpy() for name, part in table.groupby("network")}
    assert shown["sample"] == pytest.approx(shown["nearest"])
    assert sorted(shown["nearest"]) == pytest.approx(sorted(torch.cat([t.flatten() for t in weights(original)]).tolist()))
    distance = table.groupby("network")["distance"].first()
    assert distance["sample"] == 0
    assert distance["nearest"] == pytest.approx(0, abs=1e-5)
    assert distance["zoo"] > 1


def weights(networks: Networks) -> list[torch.Tensor]:
    return [networks.weights[f"linear{k}.weight"] for k in (1, 2, 3)]


def test_a_new_network_differs_from_its_neighbour_but_less_than_from_others():
    distance = pictures(Networks.from_flat(ARCHITECTURE, runs(1, 5, "new"))).groupby("network")["distance"].first()
    assert 0 < distance["nearest"] < distance["zoo"]


def test_first_layers_of_images_are_images_and_filters_stay():
    wide = torch.arange(24.0).view(2, 12)
    assert filters(wide, (3, 2, 2)).shape == (2, 3, 2, 2)
    assert torch.equal(filters(wide, (3, 2, 2)).flatten(), wide.flatten())
    assert filters(wide, (1, 2, 2)).shape == filters(wide, None).shape == (2, 1, 1, 12)
    assert filters(torch.zeros(40, 50, 3, 3), None).shape == (32, 32, 3, 3)
    table = pictures(Networks.from_flat(ARCHITECTURE, runs(1, 5, "new")), (1, 2, 2))
    first = table[table["tensor"] == "linear1.weight"]
    assert (first["y"].max(), first["x"].max(), first["channel"].max()) == (1, 1, 0)


@pytest.mark.parametrize("architecture", [cnn((1, 8, 8), [2, 2], 3), mlp([6, 4, 2])])
def test_every_kind_has_pictures(architecture):
    random = generator(0, "kinds")
    flat = torch.randn(6, architecture.dimension, generator=random)
    family = zoo(6, 0, 1, 0)
    training = type(family)(
        Networks.from_flat(architecture, flat), family.trajectory, family.step, family.held_out, "trained"
    )
    drawn = Networks.from_flat(architecture, flat[:1] + 0.1)
    table = weight_pictures(drawn, training, training.networks[:1], random)
    assert table.notna().all(axis=None)
    assert not table.duplicated(["network", "tensor", "unit", "channel", "y", "x"]).any()


def test_a_zoo_of_one_run_has_no_other_network_to_show():
    training = FAMILY.training_part
    one = training[(training.trajectory == 0).nonzero().flatten()]
    table = weight_pictures(one.networks[:1], one, one.networks[:1], generator(0, "one"))
    assert table["network"].unique().tolist() == ["sample", "nearest"]
