"""Base tasks: their data in three parts."""

from wflib.tasks.tasks import TASKS, Dataset, Split, load_dataset, save_dataset

__all__ = ["TASKS", "Dataset", "Split", "load_dataset", "save_dataset"]
