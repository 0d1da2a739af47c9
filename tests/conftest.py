"""One thread for all tests: their problems are tiny, and threads that wait for each other on a busy machine cost more.

And one beginning: modules draw their weights from the global generator.
"""

from __future__ import annotations

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def modules_begin_alike() -> None:
    """Weights of torch modules come from the global generator: the same in every run of a test."""
    torch.manual_seed(0)
