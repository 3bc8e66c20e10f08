"""Pages that not everybody may see."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gapless.model.answers import Network
from gapless.model.units import EnvName, Model, show

USER = "admin"
"""Whose password it is, where only a secret is named."""
SHORTEST = 12
"""Characters of a password: ten guesses a minute then lead nowhere."""
_USER = r"[A-Za-z0-9._@-]{1,64}"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
_SEGMENT = r"\.*[A-Za-z0-9_~@+-][A-Za-z0-9._~@+-]*"
_PATH = re.compile(rf"(/{_SEGMENT})+/?|/")


def _logins(value: Any) -> Any:
    """The name of one secret is that of ``USER``."""
    return {USER: value} if isinstance(value, str) else value


def _check_logins(logins: dict[str, str]) -> dict[str, str]:
    for user, secret in logins.items():
        if not re.fullmatch(_USER, user):
            raise ValueError(f"{show(user)} is no user: letters, digits and . _ @ - are possible")
        if not re.fullmatch(_VARIABLE, secret):
            raise ValueError(
                f'must be the name of a secret such as "ADMIN_PASSWORD", got {show(secret)}'
            )
    return logins


Logins = Annotated[
    dict[str, str],
    AfterValidator(_check_logins),
    BeforeValidator(_logins, json_schema_input_type=EnvName | dict[str, EnvName]),
    Field(max_length=50),
]


class Private(Model):
    """Who may see a page: whoever has a listed address and logs in, as far as either is asked."""

    allow: tuple[Network, ...] = ()
    """Addresses or networks that may see it; others get 403. Absent: all."""
    login: Logins = Field(default_factory=dict)
    """Users, and the secrets that are their passwords: { ops = "OPS_PASSWORD" }; one secret's name
    alone is that of "admin". Ten wrong ones a minute from one address, and it gets 429."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.allow and not self.login:
            raise ValueError("needs allow or login")
        return self


def parse(value: Any) -> Any:
    """A list is of addresses, a string the name of a secret. The table is left to the model."""
    if isinstance(value, str):
        return {"login": value}
    if isinstance(value, list | tuple):
        return {"allow": value}
    if isinstance(value, dict | Private):
        return value
    raise ValueError(
        "must be the name of a secret, a list of addresses or a table { allow, login }, "
        f"got {show(value)}"
    )


def parse_place(value: Any) -> Any:
    """The same; false: anybody may see it."""
    return None if value is False else parse(value)


def is_local(listen: str) -> bool:
    """Whether only this machine can come by that address: nobody hears what is said there."""
    host = listen.rpartition(":")[0].strip("[]")
    return host == "::1" or host.startswith("127.")


def check_paths(places: dict[str, Private | None]) -> dict[str, Private | None]:
    """Paths that can be told apart in whichever way they are spelt. Raises ValueError."""
    seen = set()
    for path in places:
        if not _PATH.fullmatch(path):
            raise ValueError(
                f'must be paths such as "/admin", decoded and without empty parts, got {show(path)}'
            )
        plain = path.rstrip("/").lower()
        if plain in seen:
            raise ValueError(f'"{path}" is there twice')
        seen.add(plain)
    return places


_WRITTEN = EnvName | Annotated[list[Network], Field(min_length=1)] | Private
PrivateField = Annotated[Private, BeforeValidator(parse, json_schema_input_type=_WRITTEN)]
PlaceField = Annotated[
    Private | None, BeforeValidator(parse_place, json_schema_input_type=_WRITTEN | Literal[False])
]
Places = Annotated[dict[str, PlaceField], AfterValidator(check_paths)]
