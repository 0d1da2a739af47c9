"""How figures look: one colour and one name a source everywhere, the same bytes for the same input."""

from __future__ import annotations

import colorsys
import io
import re
from collections.abc import Iterable
from contextlib import AbstractContextManager

import matplotlib.style
import numpy as np
import seaborn as sns
from matplotlib.axis import Axis
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from wflib.models import METHODS

__all__ = ["COLOURS", "INK", "LABELS", "colour", "label", "log_scale", "ordered", "svg_bytes", "theme"]

# Okabe and Ito's palette for what is always there: told apart with every common form of colour blindness.
OURS = {"samples": "#D55E00", "zoo": "#0072B2", "held-out": "#56B4E9"}
COLOURS = (
    OURS | {"flow": OURS["samples"], "training": OURS["zoo"]} | {name: method.colour for name, method in METHODS.items()}
)
LABELS = {name: name for name in (*OURS, "flow", "training")} | {name: method.label for name, method in METHODS.items()}
INK = "#333333"
OTHER = "#999999"
DARK_PAPER = "#14181c"
"""What dark pages are printed on: the report's own, and figures' with it."""
DARKEST = 0.4
"""Least lightness of a colour on dark paper."""


def theme() -> AbstractContextManager[None]:
    """A context in which figures are drawn and saved; settings of the caller stay as they are outside of it."""
    settings = {
        **sns.axes_style("ticks"),
        **sns.plotting_context("paper", font_scale=1.1),
        "font.family": ["sans-serif"],
        "font.sans-serif": ["DejaVu Sans"],
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.edgecolor": INK,
        "legend.frameon": False,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "svg.hashsalt": "wflib",
        "svg.fonttype": "path",
        "svg.image_inline": True,
    }
    return matplotlib.style.context(settings, after_reset=True)


def svg_bytes(figure: Figure) -> bytes:
    """The figure as an SVG without date or names of software, so that nothing but its content can change it.

    On screens that ask for dark pages it is dark: see :func:`dark_style`.
    """
    buffer = io.BytesIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing, dpi=200)  # of rasterized points
    drawn = buffer.getvalue()
    return drawn.replace(b"</style>", f"\n{dark_style(drawn.decode())}</style>".encode(), 1)


def dark_style(drawing: str) -> str:
    """Style sheet that gives each colour of fills and strokes its dark counterpart where a reader prefers dark pages.

    Greys trade light for dark, white becomes the page's paper, and colours too dark for it are lightened; images stay.
    """
    found = sorted(set(re.findall(r"\b(?:fill|stroke): #[0-9a-f]{6}", drawing)))
    pairs = [(one, one[-7:], dark_counterpart(one[-7:])) for one in found]
    rules = [f'[style*="{one}"]{{{one.partition(":")[0]}:{to}!important}}' for one, of, to in pairs if to != of]
    return f"@media screen and (prefers-color-scheme: dark){{{''.join(rules)}}}\n"


def dark_counterpart(colour: str) -> str:
    """A colour, as #rrggbb, for the same thing on dark paper."""
    hue, light, saturation = colorsys.rgb_to_hls(*to_rgb(colour))
    if saturation < 0.1:
        return DARK_PAPER if light == 1 else to_hex(3 * (0.9 - 0.75 * light,))
    if light < DARKEST:
        return to_hex(colorsys.hls_to_rgb(hue, DARKEST, saturation))
    return colour


def ordered(sources: Iterable[str]) -> list[str]:
    """Distinct sources in the report's order, unknown ones last by name."""
    known = list(COLOURS)
    return sorted(set(sources), key=lambda source: (known.index(source) if source in known else len(known), source))


def colour(source: str) -> str:
    """The colour of a source, grey for one that has none of its own."""
    return COLOURS.get(source, OTHER)


def label(source: str) -> str:
    """The name of a source in figures and tables."""
    return LABELS.get(source, source)


def log_scale(axis: Axis, values: Iterable[float]) -> None:
    """Make an axis logarithmic with plain numbers, or leave it linear if not all values are positive."""
    numbers = np.asarray([value for value in values if np.isfinite(value)], dtype=float)
    if not numbers.size or numbers.min() <= 0:
        return
    decades = np.log10(numbers.max() / numbers.min())
    scale = axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale
    scale("log", nonpositive="clip")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1, 3) if decades < 3 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
