"""The symmetries of all classification models of torchvision: ``python -m benchmarks.symmetries`` (needs torchvision).

Models get random weights, one is done at a time, and what is done already is not done again. Every model is traced, its
groups are derived, and a random element of the group that was found (permutations and scalings at once) is applied; then one
tensor is put back into its old order, which must change the function. In float64, but for models that would need more than
memory allows; the table says which.
"""

from __future__ import annotations

import csv
import gc
import time
from pathlib import Path
from unittest import mock

import torch
import typer
from torch import Tensor, nn

from wflib.architecture import Architecture
from wflib.networks import Networks
from wflib.rng import generator
from wflib.symmetry import Symmetries, permute, random_permutations, random_scales, scale

FOLDER = Path("reports/symmetries")
SIZES = {"maxvit_t": 224, "inception_v3": 96, "vit_h_14": 56}
SINGLE = ("regnet_y_128gf", "vit_h_14", "vit_l_16", "vit_l_32")
"""Models of more than 300 million parameters, which two or three copies of in float64 would take eight gigabytes."""
COLUMNS = [
    "model",
    "parameters",
    "precision",
    "input",
    "traced",
    "groups",
    "nested",
    "permutable",
    "log_order",
    "scalable",
    "mixable",
    "redundant",
    "change",
    "change_with_a_tie_cut",
    "trace_s",
    "derive_s",
]


def torchvision_models():
    """``torchvision.models``; where its compiled operators are missing, so are two schemas that its import refers to."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision import models

    return models


@torch.no_grad()
def randomize(module: nn.Module) -> None:
    """Weights at which outputs depend on everything: no zero layer scales, heads or biases, no statistics of one."""
    random = generator(0, "weights")
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if not tensor.is_floating_point() or name.endswith(("logit_scale", "relative_coords_table")):
            continue
        fan_in = tensor[0].numel() if tensor.ndim > 1 else 1
        drawn = torch.randn(tensor.shape, generator=random)
        if name.endswith("running_var"):
            tensor.copy_(0.5 + drawn.sigmoid())
        elif fan_in > 1 and "embedding" not in name and "token" not in name and "table" not in name:
            tensor.copy_(drawn * fan_in**-0.5)
        else:
            tensor.copy_(0.1 * drawn + float(name.endswith(("weight", "layer_scale"))))


def uninitialized():
    """A context in which modules are built without the initial weights that are about to be replaced."""
    names = ("uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_")
    return mock.patch.multiple(nn.init, **dict.fromkeys(names, lambda tensor, *_, **__: tensor))


def build(models, name: str) -> tuple[nn.Module, Tensor, str]:
    """A model with random weights and one example for it."""
    size = SIZES.get(name, 64)
    dtype = torch.float32 if name in SINGLE else torch.float64
    settings = {"image_size": size} if name.startswith("vit") else {}
    if name in ("googlenet", "inception_v3"):
        settings["init_weights"] = False
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with uninitialized():
            module = models.get_model(name, weights=None, **settings).eval().to(dtype)
    finally:
        torch.set_default_dtype(default)
    randomize(module)
    return (
        module,
        torch.randn(1, 3, size, size, generator=generator(0, "inputs")).to(dtype),
        str(dtype).removeprefix("torch."),
    )


def change(expected: Tensor, found: Tensor) -> float:
    """Largest change, relative to the largest output."""
    return float((found - expected).abs().max() / expected.abs().max())


@torch.no_grad()
def verify(networks: Networks, inputs: Tensor) -> tuple[float, float]:
    """Changes of the output by a random element of the group, and by the same with one tie cut."""
    architecture, expected, random = networks.architecture, networks.forward(inputs), generator(0, "element")
    moved = permute(networks, random_permutations(architecture, 1, random))
    scales = random_scales(architecture, 1, random, dtype=inputs.dtype)
    # Fourth roots: factors near one, for which no variance plus ε becomes smaller than ε.
    moved = scale(moved, {name: factor.sign() * factor.abs() ** 0.25 for name, factor in scales.items()})
    first = next(group.name for group in architecture.hidden_groups if group.size > 1)
    cut = next(name for name, _ in architecture.shapes if any(first in axis.groups for axis in architecture.axes(name)))
    torn = moved.with_weights({**moved.weights, cut: networks.weights[cut]})
    return change(expected, moved.forward(inputs)), change(expected, torn.forward(inputs))


def measure(models, name: str) -> dict[str, object]:
    """One row of the table."""
    module, inputs, precision = build(models, name)
    row: dict[str, object] = {"model": name, "precision": precision, "input": inputs.shape[-1]}
    start = time.perf_counter()
    try:
        architecture = Architecture.from_module(module, inputs)
    except ValueError as error:
        return row | {"traced": str(error)}
    traced = time.perf_counter()
    found = Symmetries(architecture)
    derived = (found.architecture.groups, time.perf_counter())[1]
    state = module.state_dict()
    kept, cut = verify(Networks(architecture, {key: state[key].unsqueeze(0) for key, _ in architecture.shapes}), inputs)
    groups = architecture.hidden_groups
    return row | {
        "parameters": found.parameters,
        "traced": "yes",
        "groups": len(groups),
        "nested": sum(group.parent is not None for group in groups),
        "permutable": found.permutable,
        "log_order": round(found.log_order),
        "scalable": found.scalable,
        "mixable": found.mixable,
        "redundant": f"{found.redundant:.5f}",
        "change": f"{kept:.1e}",
        "change_with_a_tie_cut": f"{cut:.1e}",
        "trace_s": f"{traced - start:.1f}",
        "derive_s": f"{derived - traced:.1f}",
    }


def write_page(rows: list[dict[str, str]], path: Path) -> None:
    """The table as Markdown, with what it says in one sentence."""
    traced = [row for row in rows if row["traced"] == "yes"]
    double = [row for row in traced if row["precision"] == "float64"]
    worst = max((float(row["change"]) for row in double), default=float("nan"))
    least = min((float(row["change_with_a_tie_cut"]) for row in traced), default=float("nan"))
    lines = [
        "# Symmetries of torchvision's classification models",
        "",
        f"{len(traced)} of {len(rows)} models are traced. A random element of the group that was found changes outputs by "
        f"at most {worst:.1e} (relative, {len(double)} models in float64); with one tie cut, by at least {least:.1e}. "
        "Times are those of one busy CPU core. Made by `python -m benchmarks.symmetries`.",
        "",
        "| " + " | ".join(column.replace("_", " ") for column in COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(row[column] for column in COLUMNS) + " |" for row in rows),
    ]
    path.write_text("\n".join(lines) + "\n")


def main(names: list[str] = typer.Argument(None), folder: Path = FOLDER) -> None:
    """Measure all models, or those that are named, that the table does not hold yet."""
    models = torchvision_models()
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "torchvision.csv"
    rows = list(csv.DictReader(table.open())) if table.exists() else []
    done = {row["model"] for row in rows}
    for name in names or models.list_models(module=models):
        if name not in done:
            row = {
                column: str(value) for column, value in ({column: "" for column in COLUMNS} | measure(models, name)).items()
            }
            rows.append(row)
            with table.open("w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(sorted(rows, key=lambda row: row["model"]))
            gc.collect()
    write_page(sorted(rows, key=lambda row: row["model"]), folder / "torchvision.md")


if __name__ == "__main__":
    typer.run(main)
