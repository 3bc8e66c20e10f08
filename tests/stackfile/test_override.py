"""More environment in a file: there, and nothing else changed."""

from __future__ import annotations

import tomllib

import pytest

from gapless.errors import UsageError
from gapless.stackfile import override, parse

BASE = 'gapless = 1\nname = "x"\n'
WEB = '[service.web]\nrun = "web ${socket}"\n'


@pytest.mark.parametrize(
    "text",
    [
        BASE + WEB,
        BASE + WEB.rstrip("\n"),
        BASE + '[env]  # for all\nA = "1"\n' + WEB,
        BASE + WEB + "[env]",
        BASE + 'env.A = "1"\n' + WEB,
        BASE + 'x-note = """\n[env]\n"""\n' + WEB,
    ],
)
def test_it_is_there_and_the_rest_is_the_same(text: str) -> None:
    made = tomllib.loads(override.with_env(text, {"DRILL": 'a "quoted"\\ one', "B": "2"}))
    before = tomllib.loads(text)
    extra = {"DRILL": 'a "quoted"\\ one', "B": "2"}
    assert made == {**before, "env": {**before.get("env", {}), **extra}}
    assert parse(override.with_env(text, {"DRILL": "1"})).stack.env["DRILL"] == "1"


def test_what_cannot_be_done_is_said() -> None:
    with pytest.raises(UsageError, match="set in the file itself"):
        override.with_env(BASE + '[env]\nA = "1"\n' + WEB, {"A": "2"})
    with pytest.raises(UsageError, match=r"toml:3: env is an inline table"):
        override.with_env(BASE + 'env = { A = "1" }\n' + WEB, {"B": "2"})
