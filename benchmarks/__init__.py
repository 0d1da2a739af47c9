"""Benchmarks: ratios within one run, medians; `make bench` runs them, the tests do not."""
