"""Values of secrets, in every form in which programs print them."""

from __future__ import annotations

import base64
import html
import json
import shlex
from collections.abc import Callable
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import assume, given
from hypothesis import strategies as some

from gapless.engine import mask

CHARACTERS = some.characters(exclude_categories=["Cs"], exclude_characters="\0*")
LONG = some.text(CHARACTERS, min_size=mask.SHORT, max_size=40)
ENCODERS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in a URL": lambda v: f"postgresql://u:{quote(v, safe='')}@h/d",
    "in a URL, lower case": lambda v: f"http://u:{_lower_percent(quote(v, safe=''))}@h/",
    "in a form": lambda v: urlencode({"password": v}),
    "in a path": quote,
    "in a query": quote_plus,
    "in JSON": lambda v: json.dumps({"password": v}),
    "in JSON with its letters": lambda v: json.dumps([v], ensure_ascii=False),
    "in JSON in JSON": lambda v: json.dumps(json.dumps(v)),
    "a shell word": lambda v: f"PASSWORD={shlex.quote(v)} run",
    "a Python literal": repr,
    "bytes of Python": lambda v: repr(v.encode()),
    "in HTML": html.escape,
    "base64": lambda v: base64.b64encode(v.encode()).decode(),
    "base64 for URLs": lambda v: base64.urlsafe_b64encode(v.encode()).decode(),
    "hexadecimal": lambda v: v.encode().hex(),
}


def _lower_percent(text: str) -> str:
    words = text.split("%")
    return "%".join([words[0], *(word[:2].lower() + word[2:] for word in words[1:])])


@pytest.mark.parametrize("form", ENCODERS)
@given(value=LONG)
def test_no_form_of_a_value_survives(form: str, value: str) -> None:
    line = ENCODERS[form](value)
    assume(value in line or form != "as it is")
    masked = mask.mask(f"\0{line}\0", [value])  # no value has that character
    assert mask.STARS in masked
    assert value not in masked
    assert ENCODERS[form](value).strip("'\"") not in masked
    assert masked.startswith("\0")
    assert masked.endswith("\0")


@given(user=some.text(CHARACTERS, max_size=8), value=some.text(CHARACTERS, min_size=9))
def test_basic_authorization(user: str, value: str) -> None:
    token = base64.b64encode(f"{user}:{value}".encode()).decode()
    masked = mask.mask(f"Authorization: Basic {token}", [value])
    left = masked.removeprefix("Authorization: Basic ")
    assert mask.STARS in left
    # What depends on the value alone is gone: at most a character on each side is left of it.
    assert len(left) <= len(base64.b64encode(f"{user}:".encode())) + len(mask.STARS) + 8


@given(some.lists(LONG, max_size=5), some.text(CHARACTERS, max_size=80))
def test_all_values_at_once(values: list[str], text: str) -> None:
    masked = mask.mask(" ".join([text, *values, text]), values)
    # Joints of what is left with the stars can spell anything but a value without stars.
    for value in values:
        assert value not in masked


@given(LONG, some.text(some.sampled_from("0123456789 .:-"), max_size=60))
def test_innocent_text_stays(value: str, text: str) -> None:
    assume(not any(form in text for form in mask.forms(value)))
    assert mask.mask(text, [value]) == text


@pytest.mark.parametrize(
    ("values", "text", "masked"),
    [
        (["abcd", "cdef"], "xabcdefx", "x***x"),
        (["abcd", "abcdef"], "abcdef abcd", "*** ***"),
        (["aaaa"], "aaaaaaa", "***"),
        (["ok"], "token ok, ok: look", "token ***, ***: look"),
        (["x"], "x=1 max", "***=1 max"),
        (["", "abcd"], "abcd", "***"),
        ([], "abcd", "abcd"),
    ],
)
def test_overlaps_and_short_values(values: list[str], text: str, masked: str) -> None:
    assert mask.mask(text, values) == masked


def test_lines_of_a_key() -> None:
    body = "MIIEvQIBADANBgkqhkiG9w0BAQ\nEFAASCBKcwggSjAgEAAoIBAQC7"
    key = f"-----BEGIN KEY-----\n{body}\n-----END KEY-----"
    masker = mask.Masker([key])
    assert masker("line: MIIEvQIBADANBgkqhkiG9w0BAQ") == "line: ***"
    assert masker("EFAASCBKcwggSjAgEAAoIBAQC7\r") == "***\r"
    assert masker(json.dumps(key)) == '"***"'


def test_a_mask_that_hides_nothing_is_noticed() -> None:
    # The planted fault: without the encoded forms the value is there to read.
    value, line = "p@ss word", quote("p@ss word", safe="")
    assert line.replace(value, mask.STARS) == line
    assert mask.mask(line, [value]) == mask.STARS
