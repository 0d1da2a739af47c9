"""Base tasks: their data in three parts."""

from wflib.tasks.checks import check_dataset, targets_fault
from wflib.tasks.files import load_dataset, save_dataset
from wflib.tasks.loading import TASKS, fetch_dataset
from wflib.tasks.outside import outside_inputs
from wflib.tasks.tasks import WITHOUT_CLASSES, WITHOUT_EXAMPLES, Dataset, Split

__all__ = ["TASKS", "WITHOUT_CLASSES", "WITHOUT_EXAMPLES", "Dataset", "Split"]
__all__ += ["check_dataset", "fetch_dataset", "load_dataset", "outside_inputs", "save_dataset", "targets_fault"]
