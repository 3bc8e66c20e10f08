"""Check the sizes that keep the code readable. Usage: sizes.py [FOLDER …]

Over a hard limit: printed, and exit 1. Over a soft one: printed only.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FILE = (400, 700)
FUNCTION = (40, 80)
OTHERS = Path("bench/out")
"""What the bench installs is not ours."""


def look(path: Path) -> Iterator[tuple[bool, str]]:
    """Yield (is it over the hard limit, what is too long) for one Python file."""
    text = path.read_text()
    yield from _judge(f"{path}", len(text.splitlines()), FILE)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            yield from _judge(f"{path}:{node.lineno}: {node.name}", length, FUNCTION)


def _judge(what: str, lines: int, limits: tuple[int, int]) -> Iterator[tuple[bool, str]]:
    soft, hard = limits
    if lines > soft:
        word = "limit" if lines > hard else "aim"
        yield lines > hard, f"{what}: {lines} lines, the {word} is {hard if lines > hard else soft}"


def main(folders: list[str]) -> int:
    """Exit code 1 when a hard limit is broken."""
    found = [
        finding
        for folder in folders or ["."]
        for path in sorted(Path(folder).rglob("*.py"))
        if not path.is_relative_to(OTHERS)
        for finding in look(path)
    ]
    for _, text in found:
        sys.stdout.write(text + "\n")
    return int(any(hard for hard, _ in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
