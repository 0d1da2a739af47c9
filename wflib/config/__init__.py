"""Typed settings: one frozen model per section of ``params.yaml``, checked before any work starts.

``params.yaml`` names a task and overrides; what it leaves out, or ``null``, comes from the task's preset, which may say
otherwise for some geometries under ``geometries``. Unknown keys, wrong types and values out of range are errors that name
the key, what was given and what is allowed.
"""

from wflib.config.base import Count, Finite, NonNegative, Positive, Section, Seed
from wflib.config.data import DataConfig
from wflib.config.extras import EXTRAS, MissingExtra, extra_module, quiet_import
from wflib.config.failures import TRACEBACK, clear_errors
from wflib.config.flow import FlowConfig, VelocityConfig, require_start_from_prior
from wflib.config.loading import SettingsError, load_settings
from wflib.config.reading import ReadConfig
from wflib.config.sections import EvaluateConfig, FlowSections, SampleConfig, Settings, TrainingConfig
from wflib.config.zoo import AlignConfig, CanonicalizeConfig, ZooConfig

__all__ = [
    "EXTRAS",
    "TRACEBACK",
    "AlignConfig",
    "CanonicalizeConfig",
    "Count",
    "DataConfig",
    "EvaluateConfig",
    "Finite",
    "FlowConfig",
    "FlowSections",
    "MissingExtra",
    "NonNegative",
    "Positive",
    "ReadConfig",
    "SampleConfig",
    "Section",
    "Seed",
    "Settings",
    "SettingsError",
    "TrainingConfig",
    "VelocityConfig",
    "ZooConfig",
    "clear_errors",
    "extra_module",
    "load_settings",
    "quiet_import",
    "require_start_from_prior",
]
