"""What ``make demo`` runs: :func:`run_demo`, all steps of the pipeline on small networks within a minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from ruamel.yaml import YAML

from wflib.comparison import Comparison, compare_networks, write_page
from wflib.config import Settings
from wflib.flow import FlowTrainer, flow_for_zoo, save_flow
from wflib.models import FlowModel
from wflib.report import mean_excess
from wflib.rng import generator
from wflib.storage import require_writable
from wflib.symmetry import decanonicalize
from wflib.tasks import fetch_dataset, save_dataset
from wflib.zoo import align_zoo, network_for, save_zoo, train_zoo

__all__ = ["DemoResult", "demo_settings", "run_demo"]

TITLE = "wflib in one minute: networks drawn from a flow"
INTRODUCTION = (
    "A zoo of small classifiers was trained on UCI Breast Cancer Diagnostic, a flow learned their distribution, and drew "
    "new ones (the samples). Everything here was computed just now, by a flow far smaller and shorter trained than the "
    "pipeline's: the page shows what is measured, and samples that tests can still tell from held-out networks."
)


@dataclass(frozen=True)
class DemoResult:
    """What :func:`run_demo` returns.

    Attributes:
        sentences: What happened, step → sentence.
        comparison: The numbers behind them.
        page: The page that was written.
        flow: The flow's file, for :func:`wflib.load_flow`.
        networks: The drawn networks' file, for ``wflib.Networks.load``.
    """

    sentences: dict[str, str]
    comparison: Comparison
    page: Path
    flow: Path
    networks: Path


def demo_settings() -> Settings:
    """Every setting of the demonstration."""
    text = files("wflib.demo").joinpath("settings.yaml").read_text(encoding="utf-8")
    return Settings.model_validate(YAML(typ="safe").load(text))


@contextmanager
def timed(seconds: dict[str, float], step: str, say: Callable[[str], None]) -> Iterator[None]:
    """Keep the seconds of a step."""
    say(step)
    started = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - started


def run_demo(
    page: str | Path,
    folder: str | Path,
    settings: Settings | None = None,
    say: Callable[[str], None] = lambda step: None,
) -> DemoResult:
    """Train a zoo, align it, learn a flow, draw networks, and compare them with held-out ones.

    Args:
        page: HTML file to write.
        folder: Where dataset, aligned zoo, flow and drawn networks go, named as the pipeline names them.
        settings: Euclidean flows only, as nothing is canonicalized; None for :func:`demo_settings`.
        say: Called with the name of each step before it starts.

    Returns:
        Sentences, numbers and files.

    Raises:
        ValueError: Settings of another geometry, or a task without classes or with bad examples.
        OSError: A place that cannot be written.
    """
    settings, folder = settings or demo_settings(), Path(folder)
    seconds: dict[str, float] = {}
    if settings.flow.geometry != "euclidean":
        raise ValueError(f"run_demo: flow.geometry expected euclidean, got {settings.flow.geometry}.")
    paths = {name: folder / f"{name}.safetensors" for name in ("dataset", "zoo/aligned", "flow", "networks")}
    for path in (Path(page), *paths.values()):  # before the work, not after it
        require_writable(path)
    with timed(seconds, "train", say):
        dataset = fetch_dataset(settings.task, settings.data.split)
        if not dataset.has_classes:
            raise ValueError(
                f"run_demo: expected a task with classes, got {settings.task}; choose another, or the pipeline, which "
                "compares weights alone where there are none."
            )
        architecture = network_for(settings.zoo, dataset)
        dataset = dataset.for_networks(architecture, "run_demo")
        trained = train_zoo(architecture, dataset, settings.zoo)
    with timed(seconds, "align", say):
        zoo = align_zoo(trained, settings.align, dataset)
    with timed(seconds, "learn", say):
        trainer = FlowTrainer(flow_for_zoo(settings, zoo, dataset.train), zoo, settings.training, dataset.train)
        flow = trainer.run()
    with timed(seconds, "draw", say):
        config = settings.sample
        model = FlowModel(flow, config, dataset.train, dataset.validation)
        drawn = decanonicalize(model.draw(config.networks, generator(config.seed, "draw")).to("cpu"))
        drawn = replace(drawn, metadata={"task": settings.task, "seed": config.seed, "geometry": "euclidean"})
    with timed(seconds, "compare", say):
        comparison = compare_networks(drawn, zoo, dataset, unaligned=trained, most=settings.evaluate.zoo_networks)
    sentences = told(settings, comparison, seconds, len(zoo), architecture.dimension)
    save_dataset(paths["dataset"], dataset)
    save_zoo(paths["zoo/aligned"], zoo)
    save_flow(paths["flow"], flow)
    drawn.save(paths["networks"])
    write_page(page, TITLE, INTRODUCTION, comparison, sentences)
    return DemoResult(sentences, comparison, Path(page), paths["flow"], paths["networks"])


def told(
    settings: Settings, comparison: Comparison, seconds: dict[str, float], snapshots: int, weights: int
) -> dict[str, str]:
    """The demonstration in five sentences, from its numbers."""
    number, barriers = comparison.number, comparison.data.barriers
    before, after = (mean_excess(barriers, stage)[0] for stage in ("unaligned", "aligned"))
    if comparison.auc is None:
        tested = "too few networks to test."
    else:
        tested = (
            f"a classifier tells drawn from held-out networks with an AUC of {comparison.auc:.2f} (0.50: not at all); "
            f"copying ratio {number('samples', 'copying_ratio'):.2f} (below 1: copies)."
        )
    return {
        "train": f"{settings.zoo.networks} networks of {weights} weights, {snapshots} snapshots, in "
        f"{seconds['train']:.0f} s; test accuracy {number('zoo', 'accuracy_mean'):.3f}.",
        "align": f"the loss halfway between two networks exceeds their own by {after:.3f} nats after permuting neurons, by "
        f"{before:.3f} before.",
        "learn": f"a flow from the prior to the zoo, {settings.training.iterations} iterations in {seconds['learn']:.0f} s.",
        "draw": f"{settings.sample.networks} new networks in {seconds['draw']:.1f} s; test accuracy "
        f"{number('samples', 'accuracy_mean'):.3f}, of held-out trained networks {number('held-out', 'accuracy_mean'):.3f}, "
        f"of a Gaussian fit {number('gaussian-full', 'accuracy_mean'):.3f}.",
        "compare": tested,
    }
