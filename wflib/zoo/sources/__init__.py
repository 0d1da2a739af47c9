"""Zoos that others have made, one file a format; :func:`read` is the way in, :func:`write` the way out."""

from wflib.zoo.sources.reading import FORMATS, Collection, read, recognized

__all__ = ["FORMATS", "Collection", "read", "recognized"]
