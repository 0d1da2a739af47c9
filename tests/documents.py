"""What README and documentation claim, taken out of their text: blocks of code, commands, links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import typer
from ruamel.yaml import YAML

from wflib.config import load_settings

BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?P<target>[^)#\s]+)(#[^)]*)?\)")
DVC = ("metrics diff", "plots diff", "exp show", "queue start", "queue status", "queue logs", "repro", "exp run")


def blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of a language, in order."""
    return [match["text"] for match in BLOCK.finditer(text) if match["language"] == language]


def commands(text: str) -> list[str]:
    """Lines of shell blocks without comments."""
    lines = (line for block in blocks(text, "sh") for line in block.splitlines())
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def links(text: str) -> list[str]:
    """Targets of relative links and pictures."""
    return [match["target"] for match in LINK.finditer(text) if "://" not in match["target"]]


def command_errors(root: Path, line: str) -> list[str]:
    """What is wrong with a command, without running it: programs, targets, modules, options and settings must exist."""
    try:
        return list(errors_of(root, shlex.split(line, comments=True)))
    except Exception as error:
        # Typer's complaints are those of the click that it uses, which may be its own.
        if not isinstance(error, (ImportError, ValueError)) and not hasattr(error, "format_message"):
            raise
        return [f"{line}: {getattr(error, 'message', error)}"]


def errors_of(root: Path, words: list[str]) -> Iterator[str]:
    program, rest = words[0], words[1:]
    if program == "make":
        targets = set(re.findall(r"^([a-z]+):", (root / "Makefile").read_text(), re.MULTILINE))
        yield from (f"make {word}: no such target" for word in rest if word not in targets)
    elif program == "wflib":
        parse(import_module("wflib.command").app, rest)
    elif program in ("python", "torchrun") and "-m" in rest:
        place = rest.index("-m")
        if rest[place + 1] == "pytest":
            yield from (f"{path} does not exist" for path in rest[place + 2 :] if not (root / path).exists())
        else:
            parse(import_module(rest[place + 1]).app, rest[place + 2 :])
    elif program in ("python", "bash"):
        if not (root / rest[0]).is_file():
            yield f"{rest[0]} does not exist"
    elif program == "dvc":
        yield from dvc_errors(root, rest)
    else:
        yield f"{program}: a program that no page may name"


def parse(app: typer.Typer, words: list[str]) -> None:
    """Read a command line as the program would, without running it; raises where it would complain."""
    command = typer.main.get_command(app)
    known = getattr(command, "commands", None)
    if known is not None and words[0] != "--help":
        if words[0] not in known:
            raise ValueError(f"no command {words[0]!r} among {', '.join(known)}")
        command, words = known[words[0]], words[1:]
    if "--help" not in words:
        command.make_context(command.name, list(words))


def dvc_errors(root: Path, words: list[str]) -> Iterator[str]:
    """Unknown DVC commands, pipelines that do not exist, and settings that no preset takes."""
    if not " ".join(words).startswith(DVC):
        yield f"dvc {' '.join(words)}: a command that is not among {', '.join(DVC)}"
    yield from (f"{word} does not exist" for word in words if word.endswith("dvc.yaml") and not (root / word).is_file())
    given = [words[place + 1] for place, word in enumerate(words) if word == "-S"]
    settings = dict(setting.lstrip("+").split("=", 1) for setting in given)
    wrong = [error for setting in given for error in sign_errors(root, setting.partition("=")[0])]
    yield from wrong
    if wrong:
        return
    task = settings.pop("task", "wdbc")
    several = {key: value for key, value in settings.items() if "," in value and not value.startswith("[")}
    changes = [f"{key}={value.split(',')[0] if key in several else value}" for key, value in settings.items()]
    with TemporaryDirectory() as folder:
        params = Path(folder) / "params.yaml"
        params.write_text(f"task: {task}\n")
        load_settings(params, root / "stages/presets", changes)


def sign_errors(root: Path, name: str) -> Iterator[str]:
    """DVC's signs before a setting: none where params.yaml has it, ++ where it has not."""
    found = YAML(typ="safe").load((root / "params.yaml").read_text())
    for key in name.lstrip("+").split("."):
        found = (found or {}).get(key, {})
    sign = name[: len(name) - len(name.lstrip("+"))]
    if sign not in ("", "++"):
        yield f"{name}: write ++, which changes a setting or adds it"
    elif (sign == "++") == (found != {}):
        yield f"{name}: write {'nothing' if sign else '++'} before it, params.yaml has it{'' if sign else ' not'}"
