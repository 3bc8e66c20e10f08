"""The scanner against the parser: same keys, and lines that a reader would point at."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gapless.stackfile import places

from .texts import FULL

# A busy machine must not decide a test.


def paths(value: Any, path: places.Path = ()) -> set[places.Path]:
    """Every key and position that the parser sees."""
    found: set[places.Path] = {path} if path else set()
    children: Any = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    for key, below in children:
        found |= paths(below, (*path, key))
    return found


TRICKY = r'''
# [not.a.table]
a = 1 # x = 2
"b.c" = "no # comment = here"
'd "e' = 'lit\eral'
f . "g" . h = [ 1, # one, ] two
  [2, 3], "]", ']', """
]""", ]
i = """
j = 1
\""" k = 2
"""""
l = QQQ
m = 1QQQ''
n = { o = { p.q = "}" }, r = [ { s = 1 }, { t = 2 } ] }
u = 1979-05-27 07:32:00Z
v = 0x1F
[ w . "x y" ]
z = true
[[aa]]
bb = 1
[aa.cc]
dd = 1
[[aa]]
bb = 2
[[aa.ee]]
ff = 3
[w.gg]
'''.replace("QQQ", "'" * 3)


@pytest.mark.parametrize("text", [TRICKY, TRICKY.replace("\n", "\r\n"), FULL, "", "# only"])
def test_every_key_has_a_place(text: str) -> None:
    assert set(places.find(text)) == paths(tomllib.loads(text))


def test_lines() -> None:
    found = places.find(TRICKY)
    lines = TRICKY.split("\n")
    for path, starts in {
        ("a",): "a = 1",
        ("b.c",): '"b.c"',
        ('d "e',): "'d ",
        ("f", "g", "h"): "f . ",
        ("f", "g", "h", 1, 0): "  [2, 3]",
        ("f", "g", "h", 4): "  [2, 3]",
        ("i",): "i =",
        ("l",): "l =",
        ("n", "o", "p", "q"): "n =",
        ("n", "r", 1, "t"): "n =",
        ("u",): "u =",
        ("w", "x y"): "[ w",
        ("w", "x y", "z"): "z =",
        ("aa", 0): "[[aa]]",
        ("aa", 1, "bb"): "bb = 2",
        ("aa", 1, "ee", 0, "ff"): "ff = 3",
        ("w", "gg"): "[w.gg]",
    }.items():
        assert lines[found[path] - 1].startswith(starts), path


WORDS = st.sampled_from(["a", "b-c", "1", '"q.r"', "'l'", '"\\u0061"', "_"])
KEYS = st.lists(WORDS, min_size=1, max_size=3).map(" . ".join)
SCALARS = st.sampled_from(
    ["1", "-1.5e3", "true", "inf", '"s # ]}"', "'\\'", '"""a\n"b""""', "'''c\n'd''''", "07:32:00",
     "1979-05-27 07:32:00", '"\\"\\\\"']
)  # fmt: skip
GAPS = st.sampled_from([" ", "\n", " # c ]\n ", "\r\n\t"])


def lists(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """TOML lists of such values, spaced and commented in every allowed way."""
    return st.builds(
        lambda items, gap, comma: "[" + "".join(f"{gap}{i}{gap}," for i in items)[: -1 or None]
        + ("," if comma and items else "") + gap + "]",
        st.lists(values, max_size=3), GAPS, st.booleans(),
    )  # fmt: skip


def inlines(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Inline tables of such values."""
    pairs = st.builds("{} = {}".format, KEYS, values)
    return st.lists(pairs, max_size=3).map(lambda items: "{ " + ", ".join(items) + " }")


VALUES = st.recursive(SCALARS, lambda below: lists(below) | inlines(below), max_leaves=6)
LINES = st.one_of(
    st.builds("{} = {}".format, KEYS, VALUES),
    st.builds("[{}]".format, KEYS),
    st.builds("[[{}]]".format, KEYS),
    st.just("# [x] y = 1"),
    st.just(""),
)


@given(st.lists(LINES, max_size=12).map("\n".join))
@example("a = [\n]\n[[b]]\n[b.c]")
def test_scanner_and_parser_agree(text: str) -> None:
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert set(places.find(text)) == paths(tree)


@given(st.text(alphabet="ab.=[]{}\"'#\n\\, 1"))
def test_any_text_comes_to_an_end(text: str) -> None:
    for line in places.find(text).values():
        assert 1 <= line <= text.count("\n") + 1
