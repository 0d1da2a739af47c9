"""What steps of training from drawn networks cost and give, beside the same steps from the prior they were drawn from."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from wflib.report.abilities import NLL, VARIANCE, lines
from wflib.report.theme import INK, svg_bytes, theme

__all__ = ["polish_figure", "saved_steps"]


def saved_steps(rows: pd.DataFrame, start: str, other: str, measures: tuple[str, ...]) -> pd.DataFrame:
    """How many steps from another start reach what few from this one do: the fewest measured whose measure is as low.

    Args:
        rows: ``start``, ``steps`` and the measures, of which lower is better.
        start: Whose steps are asked about, one line each.
        other: The start that is compared.
        measures: Columns of ``rows``.

    Returns:
        ``steps`` from ``start``, and for every measure a column with the steps from ``other``, in words where all that were
        measured are too few.
    """
    ours, theirs = (rows[rows.start == name].sort_values("steps") for name in (start, other))
    found = []
    for row in ours.to_dict("records"):
        line = {f"steps_from_the_{start}": row["steps"]}
        for measure in measures:
            enough = theirs.steps[theirs[measure] <= row[measure]]
            most = f"more than {theirs.steps.max()}"
            line[f"from_the_{other}_for_this_{measure}"] = str(enough.iloc[0]) if len(enough) else most
        found.append(line)
    return pd.DataFrame(found)


def polish_figure(rows: pd.DataFrame) -> bytes:
    """NLL against the cost of a network, points labelled by their steps, and spread against steps, one line per start.

    Args:
        rows: ``start``, ``steps``, ``seconds`` (for a network, drawing counted), ``nll_mean``, ``variance_ratio``.
    """
    milliseconds = rows.assign(milliseconds=1000 * rows.seconds)
    with theme():
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        lines(milliseconds, "milliseconds", "nll_mean", "start", left)
        for point in milliseconds.itertuples():
            where = {"xytext": (3, 3), "textcoords": "offset points", "fontsize": 7, "color": INK}
            left.annotate(f"{point.steps}", (point.milliseconds, point.nll_mean), **where)
        left.set(xlabel="cost of a network [ms]; labels: steps of training", ylabel=NLL)
        lines(rows, "steps", "variance_ratio", "start", right)
        counts = sorted(set(rows.steps))
        right.set_xscale("symlog", linthresh=1)
        right.set_xticks(counts, [str(count) for count in counts])
        right.set_xlim(left=-0.1)
        right.axhline(1, color=INK, linewidth=0.8, linestyle=":")
        right.set(xlabel="full-batch steps of training", ylabel=VARIANCE)
        for axes in (left, right):
            axes.legend(title=None)
        return svg_bytes(figure)
