"""Variables and files of them, as Compose's reference has them."""

from __future__ import annotations

import pytest

from gapless.compose import dotenv, variables
from gapless.errors import InvalidStack

ENVIRON = {"A": "a", "EMPTY": "", "B": "b"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("", ""),
        ("$A-$B", "a-b"),
        ("${A}b", "ab"),
        ("${X}", ""),
        ("${X:-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${X-d}", "d"),
        ("${A:+o}|${EMPTY:+o}|${EMPTY+o}|${X+o}", "o||o|"),
        ("${X:-${Y:-${B}}}", "b"),
        ("${X:-a}b}", "ab}"),
        ("${A:?w}", "a"),
        ("$$A $${A} $$$A", "$A ${A} $a"),
        ("${X:-http://h:1/?a=b&c}", "http://h:1/?a=b&c"),
        ("$A.$B", "a.b"),
    ],
)
def test_value(text: str, value: str) -> None:
    assert variables.resolve(variables.split(text), ENVIRON) == value


@pytest.mark.parametrize(
    "text", ["$", "a$ b", "${", "${}", "${A", "${A:}", "${A:-x", "${1}", "${A b}"]
)
def test_malformed(text: str) -> None:
    with pytest.raises(variables.Malformed):
        variables.split(text)


def test_too_deep_is_told() -> None:
    with pytest.raises(variables.Malformed):
        variables.split("${A:-" * 5000 + "}" * 5000)


@pytest.mark.parametrize(
    ("text", "why"), [("${X:?no X}", "no X"), ("${EMPTY:?}", ""), ("${X?$A}", "a")]
)
def test_missing(text: str, why: str) -> None:
    with pytest.raises(variables.Missing) as caught:
        variables.resolve(variables.split(text), ENVIRON)
    assert caught.value.why == why


def test_names() -> None:
    assert variables.names(variables.split("$A ${X:-${Y}} $A")) == ("A", "X", "Y")


TEXT = r"""
# a comment
ONE=1
export TWO = two words  # gone
THREE="a\n$ONE \$X"   # gone
FOUR='$ONE "as it is"'
FIVE="over
lines"
BARE
SIX=${ONE:-x}#no
SEVEN=
"""


def test_dotenv() -> None:
    found = dotenv.parse(TEXT, ".env", {"ONE": "env"})
    assert {name: entry.value for name, entry in found.items()} == {
        "ONE": "1",
        "TWO": "two words",
        "THREE": "a\nenv $X",
        "FOUR": '$ONE "as it is"',
        "FIVE": "over\nlines",
        "BARE": None,
        "SIX": "env#no",
        "SEVEN": "",
    }
    assert found["FIVE"].line == 7
    assert found["BARE"].line == 9


def test_dotenv_raw_and_faults() -> None:
    assert dotenv.parse("A='x' # y", "e", {}, raw=True)["A"].value == "'x' # y"
    with pytest.raises(InvalidStack, match=r"e:2: is no variable"):
        dotenv.parse("A=1\n=2\n", "e", {})
    with pytest.raises(InvalidStack, match=r"e:1: X has no value: say it"):
        dotenv.parse("A=${X:?say it}", "e", {})
