"""Base tasks: their data in three parts."""

from wflib.tasks.loading import TASKS, fetch_dataset
from wflib.tasks.outside import outside_inputs
from wflib.tasks.tasks import WITHOUT_CLASSES, WITHOUT_EXAMPLES, Dataset, Split, load_dataset, save_dataset

__all__ = ["TASKS", "WITHOUT_CLASSES", "WITHOUT_EXAMPLES", "Dataset", "Split"]
__all__ += ["fetch_dataset", "load_dataset", "outside_inputs", "save_dataset"]
