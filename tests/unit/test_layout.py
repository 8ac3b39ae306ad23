"""The layout of the tests: what is shared is in tests/support, and unit tests need no server.

Also the one rule of the domain that no import contract can state.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.support.paths import ROOT

TESTS = ROOT / "tests"


@cache
def nodes(module: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(module.read_text())))


def imported(module: Path) -> Iterator[str]:
    """The dotted names of all that a module imports."""
    for node in nodes(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions(module: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in nodes(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def shared_fixtures() -> set[str]:
    """The fixtures of tests/conftest.py that a test asks for by name."""
    return {
        function.name
        for function in functions(TESTS / "conftest.py")
        if "pytest.fixture" in (text := " ".join(map(ast.unparse, function.decorator_list)))
        and "autouse" not in text
    }


def test_no_module_imports_a_test_module() -> None:
    offenders = {
        f"{module.name}: {name}"
        for module in TESTS.rglob("*.py")
        for name in imported(module)
        if any(part == "conftest" or part.startswith("test_") for part in name.split("."))
    }

    assert offenders == set()


def test_unit_tests_need_no_server() -> None:
    servers = shared_fixtures()
    needed = {
        f"{module.name}: {argument.arg}"
        for module in (TESTS / "unit").rglob("*.py")
        for function in functions(module)
        for argument in function.args.args
        if argument.arg in servers
    }

    assert {"postgres", "temporal", "orderly"} <= servers
    assert needed == set()


def test_unit_tests_start_no_server() -> None:
    starting = [
        module
        for module in (TESTS / "unit").rglob("*.py")
        if any(name.startswith("tests.support.servers.") for name in imported(module))
    ]

    assert starting == []


def test_rules_ask_no_clock() -> None:
    """They get the time from the workflow; what they import is in the import contracts."""
    asking = {
        f"{module.name}:{node.lineno}"
        for module in (ROOT / "orders").rglob("*.py")
        for node in nodes(module)
        if isinstance(node, ast.Attribute) and node.attr in ("now", "today", "utcnow")
    }

    assert asking == set()
