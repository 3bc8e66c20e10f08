"""In which order services are written, which is that of their first boot."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gapless.compose import draft as drafts
from gapless.compose import names, proxies, singles
from gapless.compose.draft import Draft
from gapless.compose.forms import text
from gapless.compose.tree import Map


def order(draft: Draft) -> list[str]:
    """The services of a project: whom others wait for, or call, before these.

    What keeps files is before what says nothing of it: many have the address in their code.
    """
    first = sorted(draft.project.services, key=lambda name: not _keeps(draft, name))
    called = {name: names.of(draft, name) for name in first}
    found: dict[str, None] = {}
    for name in first:
        _visit(draft, name, called, found, set())
    return list(found)


def _visit(
    draft: Draft,
    name: str,
    called: dict[str, tuple[str, ...]],
    found: dict[str, None],
    waiting: set[str],
) -> None:
    if name in found or name in waiting:
        return  # two that call each other: one of them is first
    waiting.add(name)
    for other in _needs(draft, name, called):
        _visit(draft, other, called, found, waiting)
    found[name] = None


def _needs(draft: Draft, name: str, called: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """Whom it waits for, which is no circle, then whom it is told of: also by a mounted file, as
    nginx is, which ends where a name that stands there is nobody's yet."""
    after = draft.items(name).get("depends_on")
    if isinstance(after, Map):
        yield from (other for other in after.items if other in called)
    told = draft.told[name].values()
    for other, known in called.items():
        if other != name and any(drafts.speaks_of(one, known) for one in told):
            yield other
    for _, _, content in proxies.mounts(draft, name):
        for other, known in called.items():
            if other != name and content and _named(content, known):
                yield other


def _named(content: str, known: tuple[str, ...]) -> bool:
    """Whether a text holds an address of these names: ``//web``, ``server web``, ``web:80``."""
    name = "|".join(re.escape(one) for one in known)
    form = rf"(?:://|@|\bserver\s+)(?:{name})(?![\w.-])|(?<![\w.-])(?:{name}):[0-9]"
    return re.search(form, content) is not None


def _keeps(draft: Draft, name: str) -> bool:
    return singles.keeper(text(draft.items(name).get("image")))
