"""The pipeline in small and in one process: train networks, align them, learn a flow, draw, and say what came of it."""

from wflib.demo.demo import DemoResult, demo_settings, run_demo

__all__ = ["DemoResult", "demo_settings", "run_demo"]
