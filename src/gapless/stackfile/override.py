"""A stack file with more environment than its author wrote: how a drill makes a release that
differs in its configuration and in nothing else. The rest of the text stays byte for byte."""

from __future__ import annotations

import json
from collections.abc import Mapping

from gapless.errors import UsageError
from gapless.stackfile import places, source


def with_env(text: str, values: Mapping[str, str], *, file: str = "gapless.toml") -> str:
    """The text with these variables in its ``[env]``. Names are checked when it is parsed.

    Raises UsageError where the file sets one of them itself, or has ``env`` as an inline table;
    InvalidStack for text that is not TOML.
    """
    written = source.tree(text, file=file).get("env", {})
    for name in values:
        if isinstance(written, dict) and name in written:
            raise UsageError(f"{file}: [env] {name} is set in the file itself")
    lines = text.splitlines(keepends=True)
    pairs = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    line = places.find(text).get(("env",))
    if line is None:
        end = "" if text.endswith("\n") or not text else "\n"
        return f"{text}{end}\n[env]\n" + "".join(f"{pair}\n" for pair in pairs)
    place = lines[line - 1].lstrip()
    if place.startswith("["):
        head = lines[line - 1] if lines[line - 1].endswith("\n") else f"{lines[line - 1]}\n"
        lines[line - 1] = head + "".join(f"{pair}\n" for pair in pairs)
    elif place.partition("=")[0].strip() == "env":
        raise UsageError(
            f"{file}:{line}: env is an inline table, which cannot be added to",
            hint="write it as [env]",
        )
    else:
        lines[line - 1] = "".join(f"env.{pair}\n" for pair in pairs) + lines[line - 1]
    return "".join(lines)
