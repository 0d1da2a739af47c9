"""Zoos that others have made, one file a format; :func:`read` is the way in, :func:`write` the way out."""

from wflib.zoo.sources.collection import Collection
from wflib.zoo.sources.importing import Imported, read_into
from wflib.zoo.sources.inspection import Inspection, inspect
from wflib.zoo.sources.leaving_out import copies_text
from wflib.zoo.sources.reading import FORMATS, read, read_settings, recognized
from wflib.zoo.sources.writing import WRITERS, write

__all__ = [
    "FORMATS",
    "WRITERS",
    "Collection",
    "Imported",
    "Inspection",
    "copies_text",
    "inspect",
    "read",
    "read_into",
    "read_settings",
    "recognized",
    "write",
]
