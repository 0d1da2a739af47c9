"""cell: measure one thing with one choice of settings, for pages that compare many; a command for each measurement."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, get_args, get_origin

import typer
from pydantic import ValidationError
from pydantic_core import PydanticUndefined

from stages.common import PARAMS, PRESETS, Params, Presets, application, progress_bar, show
from wflib.config import clear_errors
from wflib.measurements import FILES, MEASUREMENTS, Inputs, Measurement, columns_of, run_cell

app = application("cell")
Out = Annotated[Path, typer.Argument(help="Folder to write: tables as CSV, and cell.json, which says what they are of.")]
Labels = Annotated[list[str], typer.Option("--label", help="A column of all tables, name=value; repeat for more.")]
Changes = Annotated[list[str], typer.Option("--set", help="A setting, section.key=value; repeat for more.")]


@app.callback()
def cell() -> None:
    """Measure one thing with one choice of settings; pages compare cells."""


def parameters(measurement: Measurement) -> list[inspect.Parameter]:
    """What the command of a measurement takes: a folder, labels, settings, files, options."""
    given: list[tuple[str, Any, Any]] = [("out", Out, inspect.Parameter.empty), ("label", Labels, ())]
    if measurement.settings:
        given += [("set", Changes, ()), ("params", Params, PARAMS), ("presets", Presets, PRESETS)]
    for name in measurement.reads:
        place, words = FILES[name]
        file = Annotated[Path | None, typer.Option(f"--{name}", help=words)]
        given.append((name.replace("-", "_"), file, place and Path(place)))
    for name, field in measurement.options.model_fields.items():
        default = inspect.Parameter.empty if field.default is PydanticUndefined else field.default
        option = typer.Option(f"--{name.replace('_', '-')}", help=field.description)
        kind: Any = field.annotation
        if get_origin(kind) is tuple:  # of any length: an option to repeat
            element = get_args(kind)[0]
            kind = GenericAlias(list, (get_args(element)[0] if get_origin(element) is Annotated else element,))
        given.append((name, Annotated[kind, option], default))
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=what)
        for name, what, default in given
    ]


def options_of(measurement: Measurement, given: dict[str, Any]) -> Any:
    """Checked options.

    Raises:
        ValueError: Names the option, what is allowed, and what was given.
    """
    try:
        return measurement.options(**given)
    except ValidationError as error:
        said = [f"--{item['loc'][0]}: {item['msg']}, got {item['input']!r}" for item in error.errors()]
        raise ValueError("; ".join(said).replace("Input should be", "expected") + ".") from error


def command(measurement: Measurement) -> Any:
    """The command of a measurement, whose options are the measurement's own."""

    def run(**given: Any) -> None:
        with clear_errors(f"cell {measurement.name}"):
            labels = columns_of(given.pop("label"))
            out, settings = given.pop("out"), {}
            if measurement.settings:
                settings = {name: given.pop(name) for name in ("params", "presets")} | {"changes": tuple(given.pop("set"))}
            files = {name: given.pop(name.replace("-", "_")) for name in measurement.reads}
            files = {name: path for name, path in files.items() if path is not None}
            options = options_of(measurement, given)
            inputs = Inputs(files, out, **settings, progress=progress_bar)
            facts = run_cell(measurement, inputs, options, labels)
            typer.echo(f"cell {measurement.name}: {show(facts['seconds'])} s, {out}: {', '.join(facts['tables'])}")

    run.__signature__ = inspect.Signature(parameters(measurement))  # type: ignore[attr-defined]  # as typer reads it
    run.__doc__ = inspect.cleandoc(measurement.measure.__doc__ or "").partition("\nRaises:")[0]
    return run


for measurement in MEASUREMENTS.values():
    app.command(measurement.name)(command(measurement))

if __name__ == "__main__":
    app()
