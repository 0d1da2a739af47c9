"""Which modules of this repository a module imports, read from its syntax tree: nothing is run."""

from __future__ import annotations

import ast
import functools
from pathlib import Path


def python_files(root: Path, *packages: str) -> list[Path]:
    """All modules of some packages below a root."""
    return sorted(path for package in packages for path in (root / package).rglob("*.py"))


def module_name(root: Path, path: Path) -> str:
    """``wflib/zoo/__init__.py`` → ``wflib.zoo``."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def module_file(root: Path, module: str) -> Path | None:
    """The file of a module of this repository, None for anything else."""
    base = root.joinpath(*module.split("."))
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)


def imported_modules(root: Path, path: Path) -> set[str]:
    """Modules of ``wflib`` and ``stages`` that a file imports, at its top or inside a function."""
    return set(imports_of(root, path, path.read_text()))


@functools.cache
def imports_of(root: Path, path: Path, text: str) -> frozenset[str]:
    """As :func:`imported_modules`, of a file with this text."""
    found = set()
    package = module_name(root, path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(text, str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parent, *([node.module] if node.module else [])])
            names = {f"{base}.{alias.name}" for alias in node.names}
            submodules = {name for name in names if module_file(root, name)}
            # ``from package import submodule`` needs the submodule; any other name comes from the package itself.
            found |= submodules | ({base} if submodules != names else set())
    return frozenset(name for name in found if name.split(".")[0] in ("wflib", "stages"))


def transitive_imports(root: Path, path: Path) -> set[Path]:
    """Every file of this repository that importing a module runs, itself included, with packages' ``__init__.py``."""
    seen, pending = set(), [path]
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        names = {module_name(root, current), *imported_modules(root, current)}
        parents = {".".join(name.split(".")[:length]) for name in names for length in range(1, name.count(".") + 2)}
        pending += [file for name in parents if (file := module_file(root, name))]
    return seen


def is_empty(path: Path) -> bool:
    """Whether a module holds nothing but comments and a docstring."""
    return holds_nothing(path.read_text())


@functools.cache
def holds_nothing(text: str) -> bool:
    """As :func:`is_empty`, of a file with this text."""
    body = ast.parse(text).body
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)
