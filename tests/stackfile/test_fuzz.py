"""Whatever is done to a file: it is a stack or one InvalidStack, whose places exist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapless import stackfile
from gapless.errors import InvalidStack
from gapless.stackfile import source

from .texts import FULL, SMALL

LINES = FULL.split("\n")
VALUES = st.sampled_from(
    ["3", "-1", "1.5", "inf", "nan", "true", "''", "'x'", "'${'", "'${db.url}'", "'${x.y|url}'",
     "'$${'", "[]", "['a']", "[1, 'a', {}]", "{}", "{ a = 1 }", "{ path = '/' }", "1979-05-27",
     "'\\u0000'", '"\\u0000"', "[[[[]]]]", "99999999999999999999", "'/x'", "'10s'", "'1' '2'",
     '"""a\nb"""', "false", "'Ünïcode'"]
)  # fmt: skip
ORDERS = settings(max_examples=60)


def survive(data: bytes, overlay: str | None) -> None:
    """Load it; any end but a stack or a well-formed InvalidStack fails."""
    try:
        text = source.decode(data, file="f.toml")
        loaded = stackfile.parse(text, file="f.toml", overlay=overlay)
    except InvalidStack as error:
        assert error.problems
        count = data.count(b"\n") + 1
        for problem in error.problems:
            assert problem.message
            assert problem.file == "f.toml"
            assert problem.line is None or 1 <= problem.line <= count
            assert (problem.text is None) or "\n" not in problem.text
        assert len(set(error.problems)) == len(error.problems)
        return
    assert loaded.stack.overlay == overlay
    assert loaded.stack.services


OVERLAY = st.sampled_from([None, "staging", "nope"])


@ORDERS
@given(st.binary(max_size=200), OVERLAY)
def test_any_bytes(data: bytes, overlay: str | None) -> None:
    survive(data, overlay)


@ORDERS
@given(st.data(), OVERLAY)
def test_flipped_bytes(data: st.DataObject, overlay: str | None) -> None:
    raw = bytearray(FULL.encode())
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=4)):
        raw[place] ^= data.draw(st.integers(1, 255))
    survive(bytes(raw), overlay)


@ORDERS
@given(st.lists(st.integers(0, len(LINES) - 1), min_size=1, max_size=6), OVERLAY)
def test_deleted_lines(gone: list[int], overlay: str | None) -> None:
    left = [line for number, line in enumerate(LINES) if number not in gone]
    survive("\n".join(left).encode(), overlay)


@ORDERS
@given(st.permutations(range(len(LINES))).map(lambda order: order[:20]), OVERLAY)
def test_shuffled_lines(order: list[int], overlay: str | None) -> None:
    survive("\n".join(LINES[number] for number in order).encode(), overlay)


@ORDERS
@given(st.data(), OVERLAY)
def test_changed_types(data: st.DataObject, overlay: str | None) -> None:
    lines = list(LINES)
    pairs = [number for number, line in enumerate(lines) if " = " in line]
    for number in data.draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=5)):
        key = lines[number].split(" = ")[0]
        lines[number] = f"{key} = {data.draw(VALUES)}"
    survive("\n".join(lines).encode(), overlay)


@ORDERS
@given(st.data(), OVERLAY)
def test_misspelt_keys(data: st.DataObject, overlay: str | None) -> None:
    lines = list(LINES)
    wordy = [number for number, line in enumerate(lines) if line.strip("[]{ ")]
    for number in data.draw(st.lists(st.sampled_from(wordy), min_size=1, max_size=4)):
        place = data.draw(st.integers(0, max(0, len(lines[number].split("=")[0]) - 1)))
        letter = data.draw(st.sampled_from("abxyz_.-[]'\"= "))
        lines[number] = lines[number][:place] + letter + lines[number][place + 1 :]
    survive("\n".join(lines).encode(), overlay)


TREES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(["'x'", "'${socket}'", "3", "true", "'/a'", "'5s'"]),
    lambda below: (
        st.lists(below, max_size=2).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(
            st.sampled_from(
                [
                    "run",
                    "web",
                    "env",
                    "service",
                    "data",
                    "type",
                    "for",
                    "unset",
                    "route",
                    "path",
                    "url",
                ]
            ),
            below,
            max_size=3,
        ).map(lambda table: "{ " + ", ".join(f"{k} = {v}" for k, v in table.items()) + " }")
    ),
    max_leaves=8,
)


@ORDERS
@given(
    st.dictionaries(
        st.sampled_from(
            ["service", "job", "data", "env", "edge", "drill", "for", "secrets", "x-a"]
        ),
        TREES,
        max_size=5,
    )
)
def test_any_shape(tables: dict[str, str]) -> None:
    text = "gapless = 1\nname = 'a'\n" + "\n".join(f"{k} = {v}" for k, v in tables.items())
    survive(text.encode(), None)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (b"\xff\xfe", "is not UTF-8 text: byte 0xff at position 0"),
        (b"a = 1\nb = '\xe9'", "is not UTF-8 text: byte 0xe9 at position 11"),
        (b"#" * (source.LIMIT + 1), "is larger than 1000 kB: this is no stack file"),
        (None, "is a directory, not a file"),
        ("", "does not exist"),
    ],
)
def test_what_is_no_text(tmp_path: Path, made: bytes | str | None, message: str) -> None:
    place = tmp_path / "gapless.toml"
    if made is None:
        place.mkdir()
    elif isinstance(made, bytes):
        place.write_bytes(made)
    with pytest.raises(InvalidStack) as caught:
        stackfile.load(place)
    (problem,) = caught.value.problems
    assert problem.message == message


def test_devices_are_not_read() -> None:
    with pytest.raises(InvalidStack, match="is not a regular file"):
        stackfile.load(Path("/dev/zero"))


def test_a_mark_of_byte_order_and_foreign_line_ends_do_no_harm(tmp_path: Path) -> None:
    place = tmp_path / "gapless.toml"
    place.write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode() + b"replica = 1\r\n")
    with pytest.raises(InvalidStack) as caught:
        stackfile.load(place)
    (problem,) = caught.value.problems
    assert (problem.line, problem.text) == (6, "replica = 1")


def test_the_fuzz_would_see_a_crash() -> None:
    # The planted fault: a loader that lets another exception through.
    with pytest.raises(TypeError):
        survive(None, None)  # type: ignore[arg-type]
