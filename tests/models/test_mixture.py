"""A mixture finds clusters that are there, and one Gaussian does not."""

from __future__ import annotations

import pytest
import torch

from tests.models.test_models import TASK, zoo_of
from wflib.models.mixture import GaussianMixture
from wflib.rng import generator


def test_a_mixture_recovers_shares_centres_and_deviations_of_clusters():
    random = generator(0, "mixture")
    second = torch.rand(600, generator=random) < 0.3
    scales = torch.where(second, 0.5, 1.0)[:, None] * torch.linspace(0.5, 1.5, 12)
    zoo = zoo_of(torch.randn(600, 12, generator=random) * scales + torch.where(second, 6.0, 0.0)[:, None])

    def clusters(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        model = GaussianMixture.fit(zoo, TASK, GaussianMixture.Settings(clusters=count), generator(0, "fit"))
        x = model.draw(20_000, generator(0, "draw")).flat
        return x, x.mean(1) > 3

    x, found = clusters(2)
    assert found.float().mean().item() == pytest.approx(second.float().mean().item(), abs=0.02)
    for mine, theirs in ((x[found], zoo.networks.flat[second]), (x[~found], zoo.networks.flat[~second])):
        torch.testing.assert_close(mine.mean(0), theirs.mean(0), atol=0.1, rtol=0)
        torch.testing.assert_close(mine.var(0), theirs.var(0), atol=0.1, rtol=0.2)
    x, found = clusters(1)
    assert (x[found].var(0) - zoo.networks.flat[second].var(0)).abs().max() > 0.5


def test_more_clusters_than_networks_are_an_error():
    zoo = zoo_of(torch.randn(5, 12, generator=generator(0, "few")))
    with pytest.raises(ValueError, match="gaussian-mixture: clusters expected at most the zoo's 5, got 6"):
        GaussianMixture.fit(zoo, TASK, GaussianMixture.Settings(clusters=6))
