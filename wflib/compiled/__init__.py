"""Kernels in C++, compiled for the machine that they run on."""

from wflib.compiled.library import NoKernels, compiler, library

__all__ = ["NoKernels", "compiler", "library"]
