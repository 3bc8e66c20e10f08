"""What docs/app.md tells people to copy is Python, and what it imports exists."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "docs/app.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def names(code: str) -> list[tuple[str, str]]:
    """(module, name) of everything imported from gapless, and of attributes of its modules."""
    tree = ast.parse(code)
    return [
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gapless")
        for alias in node.names
        if node.module
    ]


@pytest.mark.parametrize("code", BLOCKS)
def test_blocks_are_python(code: str) -> None:
    compile(code, "docs/app.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for module, name in names(code):
        home = importlib.import_module(module)
        if not hasattr(home, name):
            importlib.import_module(f"{module}.{name}")


def test_what_tables_mention_exists() -> None:
    for module in ("checks", "lease_redis", "lease_postgres", "notice", "metrics"):
        home = importlib.import_module(f"gapless.app.{module}")
        found = re.findall(rf"\b{module}\.([A-Za-z]+)\b", TEXT)
        assert found, module
        for name in found:
            assert hasattr(home, name), f"{module}.{name}"
    home = importlib.import_module("gapless.app.lease_postgres")
    for name in ("Asyncpg", "AsyncPsycopg", "DbApi"):
        assert f"`{name}(" in TEXT
        assert hasattr(home, name)
