"""Presets and overrides read, merged and checked; errors say where, which key, what was given and what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from wflib.config.flow import FlowConfig
from wflib.config.sections import Settings
from wflib.config.zoo import ZooConfig

__all__ = ["SettingsError", "load_settings"]


class SettingsError(ValueError):
    """A setting is unknown, of the wrong type or out of range; the message lists every such key."""


BY = {
    "by_network": ("network", get_args(ZooConfig.model_fields["network"].annotation)),
    "by_coupling": ("coupling", get_args(FlowConfig.model_fields["coupling"].annotation)),
}
"""Keys of sections below which settings are for one kind of network or coupling: the setting that names it, all kinds."""
SECTIONS = tuple(name for name in Settings.model_fields if name != "task")


def load_settings(
    params: str | Path = "params.yaml", presets: str | Path = "stages/presets", changes: Sequence[str] = ()
) -> Settings:
    """Read overrides and the task's preset, merge and validate them.

    Args:
        params: File with ``task`` and mappings of sections; what is left out, or ``null``, is as the preset says.
        presets: Folder with one complete preset per task, and below its key ``geometries`` what is different in ``flow``,
            ``velocity`` and ``training`` for some; dvc.yaml names that key, so that presets without any say ``{}``. Below
            ``by_network`` a section may say what is different for some kinds of network, as ``zoo.network`` names them, and
            below ``by_coupling``, which wins, for some of ``flow.coupling``.
        changes: More overrides, which win: ``section.key=value`` with a value in YAML.

    Returns:
        Every setting of every stage.

    Raises:
        SettingsError: A file is missing or unreadable, or settings are wrong; lists each key with what is allowed.
    """
    overrides = read_mapping(params)
    task = overrides.pop("task", None)
    known = sorted(path.stem for path in Path(presets).glob("*.yaml"))
    if task not in known:
        raise SettingsError(f"{params}: task: got {task!r}; allowed: {', '.join(known) or 'none'} (files in {presets}).")
    preset, geometries = read_preset(Path(presets) / f"{task}.yaml")
    chosen = without_nulls(str(params), overrides, ("task", *SECTIONS))
    for change in changes:
        name, _, text = change.partition("=")
        section, *keys = name.split(".")
        if not (all(keys) and keys and text and section in SECTIONS):
            raise SettingsError(f"{change}: expected section.key=value, the section one of {', '.join(SECTIONS)}.")
        value = read_yaml(change, text)
        for key in reversed(keys):
            value = {key: value}
        chosen[section] = joined(chosen.get(section, {}), value)
    geometry = str(chosen.get("flow", {}).get("geometry", preset["flow"]["geometry"]))
    return validated(str(params), task, *of_chosen(chosen, preset, geometries.get(geometry, {})), chosen)


def read_preset(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Complete sections of settings, and by geometry what is different; both with what is different by kind."""
    preset = read_mapping(path)
    geometries, allowed = preset.pop("geometries", None), get_args(FlowConfig.model_fields["geometry"].annotation)
    geometries = {} if geometries is None else geometries
    if not isinstance(geometries, dict) or not set(geometries) <= set(allowed):
        raise SettingsError(f"{path}: geometries: expected a mapping of {', '.join(allowed)}, got {geometries!r}.")
    different = {}
    for geometry, sections in geometries.items():
        where = f"{path}: geometries.{geometry}"
        different[geometry] = without_nulls(where, {} if sections is None else sections, ("flow", "velocity", "training"))
        if "geometry" in different[geometry].get("flow", {}):
            raise SettingsError(f"{where}: flow.geometry: unknown setting; the geometry is what these settings are for.")
    check_kinds(f"{path}", preset)
    for geometry, sections in different.items():
        check_kinds(f"{path}: geometries.{geometry}", sections)
    own = validated(str(path), path.stem, of_kinds(preset)).zoo.network
    networks, couplings = (named_kinds(by, preset, *different.values()) for by in BY)
    for network, coupling in product({own, *networks}, (None, *couplings)):
        kinds = [f"zoo.network: {network}"] * (network != own) + [f"flow.coupling: {coupling}"] * (coupling is not None)
        where = f"{path} for {', '.join(kinds)}" if kinds else f"{path}"
        chosen = {"zoo": {"network": network}, "flow": {} if coupling is None else {"coupling": coupling}}
        validated(where, path.stem, *of_chosen(chosen, preset), chosen)
        for geometry, sections in different.items():
            parts = of_chosen(chosen, preset, sections)
            validated(f"{where}: geometries.{geometry}", path.stem, *parts, joined(chosen, {"flow": {"geometry": geometry}}))
    return preset, different


def of_chosen(chosen: dict[str, Any], *parts: dict[str, Any]) -> list[dict[str, Any]]:
    """A preset, and what is different for a geometry, for the network and coupling that are chosen, or else theirs."""
    network = str(chosen.get("zoo", {}).get("network", parts[0]["zoo"]["network"]))
    flows = [sections.get("flow", {}) for sections in (*(of_kinds(part, network) for part in parts), chosen)]
    coupling = [str(flow["coupling"]) for flow in flows if "coupling" in flow][-1]
    return [of_kinds(part, network, coupling) for part in parts]


def of_kinds(sections: dict[str, Any], *kinds: str) -> dict[str, Any]:
    """Sections as they are for one kind of network, or of network and coupling."""
    found = {}
    for name, section in sections.items():
        if not isinstance(section, dict):
            found[name] = section  # Said by whoever validates it.
            continue
        found[name] = {key: value for key, value in section.items() if key not in BY}
        for by, kind in zip(BY, kinds, strict=False):
            found[name] |= (section.get(by) or {}).get(kind, {})
    return found


def named_kinds(by: str, *parts: dict[str, Any]) -> set[str]:
    """Kinds that some section has settings of its own for."""
    sections = [section for part in parts for section in part.values() if isinstance(section, dict)]
    return {kind for section in sections for kind in section.get(by) or {}}


def check_kinds(where: str, sections: dict[str, Any]) -> None:
    """Refuse settings for networks or couplings that do not exist.

    Raises:
        SettingsError: Says which section, and what is allowed.
    """
    for (name, section), (by, (own, allowed)) in product(sections.items(), BY.items()):
        given = section.get(by) if isinstance(section, dict) else None
        if given is None:
            continue
        if not isinstance(given, dict) or not set(given) <= set(allowed):
            raise SettingsError(f"{where}: {name}.{by}: expected a mapping of {', '.join(allowed)}, got {given!r}.")
        for kind, values in given.items():
            if not isinstance(values, dict) or own in values:
                raise SettingsError(f"{where}: {name}.{by}.{kind}: expected settings, got {values!r}.")


def validated(where: str, task: str, preset: dict[str, Any], *changes: dict[str, dict[str, Any]]) -> Settings:
    """A preset with changes, later ones first in rank."""
    merged = {"task": task} | preset
    for change in changes:
        merged |= {section: joined(merged[section], values) for section, values in change.items()}
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise SettingsError("\n".join(describe(where, item) for item in error.errors())) from error


def joined(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Settings with changes; what is a mapping in both is joined likewise."""
    both = {
        key for key in settings.keys() & changes.keys() if isinstance(settings[key], dict) and isinstance(changes[key], dict)
    }
    return settings | changes | {key: joined(settings[key], changes[key]) for key in both}


def not_null(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings other than null, in mappings among them, too."""
    inner = {key: not_null(value) if isinstance(value, dict) else value for key, value in settings.items()}
    return {key: value for key, value in inner.items() if value is not None}


def without_nulls(where: str, sections: Any, allowed: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Sections with settings other than null."""
    if not isinstance(sections, dict):
        raise SettingsError(f"{where}: expected a mapping of sections, got {sections!r}.")
    found = {}
    for section, values in sections.items():
        if section not in allowed:
            raise SettingsError(f"{where}: {section}: unknown section; allowed: {', '.join(allowed)}.")
        if not isinstance(values, (dict, type(None))):
            raise SettingsError(f"{where}: {section}: expected a mapping of settings, got {values!r}.")
        found[section] = not_null(values or {})
    return found


def read_mapping(path: str | Path) -> dict[str, Any]:
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: expected a YAML file with settings; {error}") from error
    content = read_yaml(str(path), text)
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: expected a mapping of sections, got {type(content).__name__}.")
    return content


def read_yaml(where: str, text: str) -> Any:
    # ruamel reads 1e-3 as a number, as DVC does; PyYAML would read a string.
    try:
        return YAML(typ="safe").load(text)
    except (ValueError, YAMLError) as error:
        raise SettingsError(f"{where}: expected YAML; {error}") from error


def describe(where: str, item: Any) -> str:
    key = ".".join(map(str, item["loc"])) or "settings"
    message = item["msg"].removeprefix("Value error, ").replace("Input should be", "allowed:")
    if item["type"] == "extra_forbidden":
        section: Any = Settings
        for name in item["loc"][:-1]:
            section = section.model_fields[str(name)].annotation
        allowed = sorted(section.model_fields) if section is not Settings else []
        message = f"unknown setting; allowed: {', '.join(allowed)}"
    given = "" if isinstance(item["input"], dict) else f" got {item['input']!r};"
    return f"{where}: {key}:{given} {message}."
