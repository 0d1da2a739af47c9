"""Files: safetensors artifacts that explain themselves, parquet tables, JSON; all written atomically."""

from wflib.storage.artifact import (
    ArtifactError,
    artifact_header,
    header_text,
    load_artifact,
    load_tensors,
    read_header,
    require_same_kinds,
    rerun,
    save_artifact,
    separate,
)
from wflib.storage.atomic import atomic_folder, atomic_path, readable, require_writable
from wflib.storage.parts import KeptParts
from wflib.storage.rows import RowFile, RowFiles, RowWriter
from wflib.storage.tables import exchanged_tables, load_json, load_table, save_json, save_table

__all__ = [
    "ArtifactError",
    "KeptParts",
    "RowFile",
    "RowFiles",
    "RowWriter",
    "artifact_header",
    "atomic_folder",
    "atomic_path",
    "exchanged_tables",
    "header_text",
    "load_artifact",
    "load_json",
    "load_table",
    "load_tensors",
    "read_header",
    "readable",
    "require_same_kinds",
    "require_writable",
    "rerun",
    "save_artifact",
    "save_json",
    "save_table",
    "separate",
]
