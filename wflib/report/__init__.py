"""The report: tables and figures of one pipeline run, one function a panel (DataFrame → Axes), and the document."""

from wflib.report.abilities import (
    distillation_figure,
    likelihood_figure,
    measures_markdown,
    response_figure,
    samplers_figure,
)
from wflib.report.audit import audit_figure, audit_markdown, audit_table, needs_zoo
from wflib.report.audit_averages import averages_figure
from wflib.report.audit_uncertainty import (
    averages_with_costs,
    mixing_sentence,
    reference_distances,
    uncertainty_markdown,
    uncertainty_rows,
)
from wflib.report.audit_words import audit_choices, audit_in_short, audit_splits, audit_zoo
from wflib.report.barriers import barrier_matrix, mean_excess
from wflib.report.cost import Cost, cost_of_run
from wflib.report.curves import learning_rate, quality_by_steps, training_loss
from wflib.report.data import ReportData
from wflib.report.document import write_report
from wflib.report.figures import FIGURES, ReportFigure
from wflib.report.polishing import polish_figure, saved_steps
from wflib.report.sources import calibration, distribution, diversity, variance_ratio
from wflib.report.study import (
    alignment_figure,
    study_figure,
    study_markdown,
    study_summary,
    symmetry_summary,
)
from wflib.report.summary import summary
from wflib.report.theme import COLOURS, LABELS, theme

__all__ = [
    "COLOURS",
    "FIGURES",
    "LABELS",
    "Cost",
    "ReportData",
    "ReportFigure",
    "alignment_figure",
    "audit_choices",
    "audit_figure",
    "audit_in_short",
    "audit_markdown",
    "audit_splits",
    "audit_table",
    "audit_zoo",
    "averages_figure",
    "averages_with_costs",
    "barrier_matrix",
    "calibration",
    "cost_of_run",
    "distillation_figure",
    "distribution",
    "diversity",
    "learning_rate",
    "likelihood_figure",
    "mean_excess",
    "measures_markdown",
    "mixing_sentence",
    "needs_zoo",
    "polish_figure",
    "quality_by_steps",
    "reference_distances",
    "response_figure",
    "samplers_figure",
    "saved_steps",
    "study_figure",
    "study_markdown",
    "study_summary",
    "summary",
    "symmetry_summary",
    "theme",
    "training_loss",
    "uncertainty_markdown",
    "uncertainty_rows",
    "variance_ratio",
    "write_report",
]
