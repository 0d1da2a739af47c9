"""The report: tables and figures of one pipeline run, one function a panel (DataFrame → Axes), and the document."""

from wflib.report.alignment import alignment_markdown, barrier_figure, distance_figure, distance_summary
from wflib.report.barriers import barrier_matrix, mean_excess
from wflib.report.curves import learning_rate, quality_by_steps, training_loss
from wflib.report.data import ReportData
from wflib.report.document import write_report
from wflib.report.figures import FIGURES, ReportFigure
from wflib.report.sources import calibration, distribution, diversity, variance_ratio
from wflib.report.study import study_figure, study_markdown, study_summary
from wflib.report.summary import summary
from wflib.report.theme import COLOURS, LABELS, theme

__all__ = [
    "COLOURS",
    "FIGURES",
    "LABELS",
    "ReportData",
    "ReportFigure",
    "alignment_markdown",
    "barrier_figure",
    "barrier_matrix",
    "calibration",
    "distance_figure",
    "distance_summary",
    "distribution",
    "diversity",
    "learning_rate",
    "mean_excess",
    "quality_by_steps",
    "study_figure",
    "study_markdown",
    "study_summary",
    "summary",
    "theme",
    "training_loss",
    "variance_ratio",
    "write_report",
]
