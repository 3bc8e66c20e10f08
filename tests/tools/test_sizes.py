"""The size check finds what is too long, and says nothing about what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import sizes


def function(lines: int) -> str:
    return "def f():\n" + "    x = 1\n" * (lines - 1)


@pytest.mark.parametrize(
    ("text", "code", "word"),
    [
        (function(40), 0, ""),
        (function(41), 0, "the aim is 40"),
        (function(80), 0, "the aim is 40"),
        (function(81), 1, "the limit is 80"),
        ("x = 1\n" * 400, 0, ""),
        ("x = 1\n" * 401, 0, "the aim is 400"),
        ("x = 1\n" * 701, 1, "the limit is 700"),
    ],
)
def test_limits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, code: int, word: str
) -> None:
    (tmp_path / "module.py").write_text(text)
    assert sizes.main([str(tmp_path)]) == code
    output = capsys.readouterr().out
    assert word in output
    assert bool(word) == bool(output)
