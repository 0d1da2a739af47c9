"""How packages of others are imported: quietly, and those that only some methods need on demand."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

__all__ = ["EXTRAS", "MissingExtra", "extra_module", "quiet_import"]

EXTRAS = {"posteriors": "bayes", "pyro": "bayes", "torchopt": "bayes", "arviz_stats": "bayes"}
"""Package → the extra of wflib that installs it."""


class MissingExtra(ImportError):
    """A method needs a package that is not installed; the message says how it is."""


@contextmanager
def quiet_import() -> Iterator[None]:
    """A block in which packages of others are imported, whose warnings of what they use of yet others nobody can act on."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        yield


def extra_module(name: str, who: str) -> ModuleType:
    """A module of a package that one of wflib's extras installs, imported when it is first needed.

    Args:
        name: Module, such as ``posteriors.vi.diag``.
        who: What needs it, the sentence's beginning.

    Raises:
        MissingExtra: It is not installed; names the extra.
        ModuleNotFoundError: It is, but a package that it needs is not.
    """
    package = name.partition(".")[0]
    try:
        with quiet_import():
            return import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        extra = EXTRAS[package]
        raise MissingExtra(f"{who} needs {package}, which is not installed: pip install 'wflib[{extra}]'.") from error
