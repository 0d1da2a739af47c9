"""Draws from generators that somebody else made, of which nobody knows where they draw."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

DRAWS = {"rand", "randn", "randint", "randperm"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def given_generators(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Names of a function's parameters that are annotated as generators of random numbers."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return {each.arg for each in arguments if each.annotation is not None and "Generator" in ast.unparse(each.annotation)}


def draws_elsewhere(node: ast.AST, given: frozenset[str] = frozenset()) -> Iterator[ast.Call]:
    """Calls of torch that draw from a generator which a function was given, and do not say that it is there."""
    if isinstance(node, FUNCTIONS):
        given = given | given_generators(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in DRAWS:
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        source = keywords.get("generator")
        if source in given and "device" not in keywords:
            yield node
    for child in ast.iter_child_nodes(node):
        yield from draws_elsewhere(child, given)


def complaints(root: Path) -> list[str]:
    """Where they are, file and line."""
    return [
        f"{path.relative_to(root)}:{call.lineno}"
        for path in sorted(root.rglob("*.py"))
        for call in draws_elsewhere(ast.parse(path.read_text()))
    ]
