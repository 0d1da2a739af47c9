"""inspect: say what a file or folder of networks is, without loading it whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stages.common import application
from wflib.config import clear_errors
from wflib.config.loading import read_yaml
from wflib.zoo import inspect, read_settings

app = application("inspect")


@app.command()
def main(
    path: Annotated[Path, typer.Argument(help="File or folder.")],
    format: Annotated[str, typer.Option(help="auto, or a format as zoo.format names it.")] = "auto",
    option: Annotated[
        list[str] | None, typer.Option("--read", help="A setting of zoo.read, as activation=relu; may be repeated.")
    ] = None,
) -> None:
    """Say in a screen what a file or folder of networks is.

    Format, architecture, number of networks and trajectories, steps, figures of merit, symmetries, and how many of a few
    networks are broken or hold NaN. Where something must be told before it can be read, the sentence says which setting.
    """
    with clear_errors("inspect"):
        pairs = (one.partition("=") for one in option or ())
        settings = read_settings({name: read_yaml(name, value) for name, _, value in pairs})
        typer.echo(str(inspect(path, format, config=settings)))


if __name__ == "__main__":
    app()
