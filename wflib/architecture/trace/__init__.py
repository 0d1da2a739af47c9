"""From torch modules to architectures."""

from wflib.architecture.trace.tracing import trace

__all__ = ["trace"]
