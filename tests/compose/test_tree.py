"""YAML: lines, anchors, merges; what is wrong is told with its place."""

from __future__ import annotations

import pytest

from gapless.compose import tree
from gapless.errors import InvalidStack

TEXT = """\
x-common: &common
  restart: always
  env: &env {A: 1}
services:
  web:
    <<: *common
    restart: "no"
    env:
      <<: [*env, {B: yes}]
  other: *common
  none:
"""


def test_each_value_has_its_line_and_what_is_repeated_has_the_place_that_repeats_it() -> None:
    found = tree.parse(TEXT, "f")
    assert [(leaf.line, leaf.path) for leaf in found.leaves] == [
        (2, "x-common.restart"),
        (3, "x-common.env.A"),
        (6, "services.web.<<"),
        (7, "services.web.restart"),
        (9, "services.web.env.<<[0]"),
        (9, "services.web.env.<<[1].B"),
        (10, "services.other"),
        (11, "services.none"),
    ]
    services = found.roots[0].items["services"]
    assert isinstance(services, tree.Map)
    web, other = services.items["web"], services.items["other"]
    assert isinstance(web, tree.Map)
    assert [(s.text, s.kind) for s in tree.scalars(web)] == [
        ("no", "str"), ("1", "int"), ("yes", "str"),
    ]  # fmt: skip
    assert {leaf.path for leaf in tree.leaves(other)} == {"services.other"}


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("a: b\na: c", 2, '"a" stands here a second time; it is on line 1 too'),
        ("a: [1, 2", 1, "is not YAML: "),
        ("a:\n\t- x", 2, "is not YAML: a tab indents nothing: use spaces"),
        ("a: *x", 1, "*x: nothing above it has this anchor (&x)"),
        ("a: &a\n  <<: *a", 2, "*a: nothing above it has this anchor (&a)"),
        ("? [a]\n: b", 1, "a list or a mapping cannot be a key"),
        ("a: &k b\n? *k\n: c", 2, "an alias cannot be a key"),
        ("a: !!python/object:x y", 1, "the tag tag:yaml.org,2002:python/object:x means nothing"),
        ("- a", 1, 'is no Compose file: it begins with a mapping, "services:"'),
        ("x: &a [1]\ny: {<<: *a}", 2, "<<: must be a mapping, or a list of them"),
        ("\x00", None, "is not YAML: control characters are not allowed"),
        ("a: 'x", 1, "is not YAML: "),
        ("a: " + "[" * 100, 1, "is nested too deeply (more than 60 levels)"),
        ("#" * 1_000_001, 1, "is larger than 1000 kB"),
    ],
)
def test_fault(text: str, line: int | None, why: str) -> None:
    with pytest.raises(InvalidStack) as caught:
        tree.parse(text, "f")
    (problem,) = caught.value.problems
    assert (problem.file, problem.message[: len(why)]) == ("f", why)
    assert line is None or abs((problem.line or 0) - line) <= 1  # libyaml sees ends a line later


def test_a_bomb_is_not_let_off() -> None:
    text = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(9)
    )
    with pytest.raises(InvalidStack, match=r"f:5: is more than 100,000 values"):
        tree.parse(text, "f")


def test_documents_of_one_file_and_an_empty_one() -> None:
    assert len(tree.parse("a: 1\n---\nb: 2\n", "f").roots) == 2
    assert tree.parse("", "f").roots == ()
    assert tree.parse("# only words\n---\n", "f").leaves == ()
