"""How the edge speaks TLS: certificates of whom, and what browsers are told."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from gapless.model.units import Model, Seconds, show

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
YEAR = 365 * 86_400.0
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"

_FORM = rf"(\*\.)?{_LABEL}(\.{_LABEL})*\.[a-z]([a-z0-9-]*[a-z0-9])?"


def _domain(value: Any) -> str:
    if isinstance(value, str) and len(value) <= 253 and re.fullmatch(_FORM, value):
        return value
    raise ValueError(f'must be a host name such as "chat.example.com", got {show(value)}')


Domain = Annotated[
    str,
    BeforeValidator(
        _domain, json_schema_input_type=Annotated[str, Field(pattern=f"^{_FORM}$", max_length=253)]
    ),
]
"""A host name in lower case (of other alphabets: its ``xn--`` form), or ``*.`` before one."""


LOCAL = ("localhost", "127.0.0.1", "::1")
"""Names that a certificate of our own making has besides the domains."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A certificate that a stack asks for. ``name`` is the file's, and the main one of ``names``
    where an authority issues it."""

    name: str
    kind: Literal["self-signed", "given", "issued"]
    names: tuple[str, ...]


class Acme(Model):
    """Who issues certificates for tls = "auto"."""

    directory: Annotated[str, Field(pattern=r"^https://[^\s'\"]+$")] = LETS_ENCRYPT
    """The certificate authority's ACME directory."""
    email: Annotated[str, Field(pattern=r"^[^\s@<>,;:]+@[^\s@<>,;:]+$", max_length=254)] | None = (
        None
    )
    """Where the authority writes to about your certificates."""
    ca: str | None = None
    """A file with the authority's own root, relative to this file, where the machine lacks it."""


class GivenCertificate(Model):
    """A certificate of your own. Both files are read again whenever they change."""

    cert: str
    """Certificate with its chain (PEM), relative to this file."""
    key: str
    """Its private key (PEM, no passphrase), relative to this file."""


class Hsts(Model):
    """Browsers are told to come by TLS alone, once gapless drill tls has held."""

    age: Seconds = YEAR
    """How long they remember it."""
    subdomains: bool = False
    """All names below the domain are meant too."""
    preload: bool = False
    """The domain may be built into browsers: nearly impossible to take back."""

    @property
    def header(self) -> str:
        """The header's value."""
        more = ["includeSubDomains"] * self.subdomains + ["preload"] * self.preload
        return "; ".join([f"max-age={int(self.age)}", *more])

    @model_validator(mode="after")
    def _logical(self) -> Self:
        if self.preload and not (self.subdomains and self.age >= YEAR):
            raise ValueError('preload needs subdomains = true and an age of "1y" at least')
        return self


def _tls(value: Any) -> Any:
    word = isinstance(value, str) and value in ("auto", "self-signed")
    if word or value is False or value is None or isinstance(value, dict | Model):
        return value
    raise ValueError(f'must be "auto", "self-signed", {{ cert, key }} or false, got {show(value)}')


def _kind(value: Any) -> str:
    return "table" if isinstance(value, dict | Model) else "word"


def _hsts(value: Any) -> Any:
    return {"age": value} if isinstance(value, str) else value


Tls = Annotated[
    Annotated[Literal["auto", "self-signed", False] | None, Tag("word")]
    | Annotated[GivenCertificate, Tag("table")],
    Discriminator(_kind),
    BeforeValidator(
        _tls, json_schema_input_type=Literal["auto", "self-signed", False] | GivenCertificate
    ),
]
HstsField = Annotated[
    Hsts | None,
    BeforeValidator(_hsts, json_schema_input_type=Seconds | Hsts),
]
