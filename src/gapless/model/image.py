"""What runs in a container: the image of a service or job, and what is mounted into it."""

from __future__ import annotations

import ipaddress
import posixpath
import re
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from gapless.model.units import Command, EnvName, Model, show

_PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
IMAGE_FORM = (
    rf"^(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}})?"
    r"(?:@sha256:[0-9a-f]{64})?$"
)
USER_FORM = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,62})?$"
_STORED = re.compile(r"\$\{([a-z][a-z0-9-]*)\.path\}((?:/[^/\0${}]+)*)")
_SECRET = re.compile(r"\$\{secret\.([A-Za-z_][A-Za-z0-9_]*)\}")
_PLAIN = re.compile(r"[^\0${}]+")
PLACE_FORM = r"^/[^\0:]*$"


def _inside(value: str) -> str:
    if value.startswith("/") or ".." in value.split("/") or not _PLAIN.fullmatch(value):
        raise ValueError(f"must lie within the source folder, got {show(value)}")
    return value


HUB = "docker.io"
"""Where images come from that name no registry."""


def registry(image: str) -> str:
    """The registry that an image's name says, as the engine reads it."""
    first, below, _ = image.partition("/")
    known = below and ("." in first or ":" in first or first == "localhost")
    return first if known else HUB


ALIAS_FORM = r"^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9_])?$"
"""What a program may have been told as the name of another one."""


def _alias(value: str) -> str:
    if not re.fullmatch(ALIAS_FORM, value):
        raise ValueError(f'must be a name such as "my_app", got {show(value)}')
    return value


Alias = Annotated[
    str, AfterValidator(_alias), WithJsonSchema({"type": "string", "pattern": ALIAS_FORM})
]
HOST_FORM = r"^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?$"
GATEWAY = "host-gateway"
"""Instead of an address: that of the machine, as containers reach it."""


def _hosts(value: dict[str, str]) -> dict[str, str]:
    for name, address in value.items():
        if not re.fullmatch(HOST_FORM, name):
            raise ValueError(f'must be names of hosts such as "db.example.com", got {show(name)}')
        if address != GATEWAY and not addressed(address):
            raise ValueError(f'{name}: must be an address, or "{GATEWAY}", got {show(address)}')
    return value


def addressed(value: str) -> bool:
    """Whether it is an address of IPv4 or IPv6, without brackets."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return "%" not in value


Inside = Annotated[str, AfterValidator(_inside)]
ImageName = Annotated[str, Field(pattern=IMAGE_FORM, max_length=400)]


RegistryName = Annotated[str, Field(pattern=rf"^{_HOST}$", max_length=260)]


class Registry(Model):
    """As whom images are pulled."""

    user: Annotated[str, Field(pattern=r"^[^\s:\x00-\x1f\x7f]+$", max_length=255)]
    """The account there."""
    password: EnvName
    """The secret that is its password, or a token: a name."""


class Build(Model):
    """How an image is made."""

    context: Inside = "."
    """Folder that the build sees, relative to the source folder."""
    dockerfile: Inside | None = None
    """Its Dockerfile, relative to the context; absent: Dockerfile."""
    target: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] | None = None
    """The stage that is the image; absent: the last one."""
    args: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str] = Field(
        default_factory=dict
    )
    """Arguments of the build; they are no place for secrets."""
    base: ImageName | None = None
    """Instead of a Dockerfile: the image that the source folder and setup go on top of, say
    "python:3.12-slim"."""

    @model_validator(mode="after")
    def _one_recipe(self) -> Self:
        given = [key for key in Build.model_fields if key in self.model_fields_set - {"base"}]
        if self.base is not None and given:
            faults = [f"{key} is of a Dockerfile, and base goes without" for key in given]
            raise ValueError("; ".join(faults))
        return self


def _source(value: str) -> str:
    outside = not value.startswith("/") and ".." in value.split("/")
    if outside or not any(form.fullmatch(value) for form in (_STORED, _SECRET, _PLAIN)):
        raise ValueError(
            'must be a files store ("${uploads.path}"), a secret ("${secret.KEY}"), a folder or '
            f"file within the source folder, or a place of the machine, got {show(value)}"
        )
    return value


class Volume(Model):
    """What a container finds at a place."""

    source: Annotated[str, AfterValidator(_source)]
    """A files store ("${uploads.path}"), the value of a secret as a file ("${secret.KEY}"), a part
    of the source folder, or a place of the machine."""
    read_only: bool = False
    """true: the container cannot write there."""

    @property
    def store(self) -> str | None:
        """The files store; None for anything else."""
        found = _STORED.fullmatch(self.source)
        return None if found is None else found[1]

    @property
    def secret(self) -> str | None:
        """The secret that is there as a file; None for anything else."""
        found = _SECRET.fullmatch(self.source)
        return None if found is None else found[1]

    @property
    def folder(self) -> str | None:
        """The part of the source folder, or the place of the machine; None for anything else."""
        return self.source if self.store is None and self.secret is None else None


def _build(value: Any) -> Any:
    return {"context": value} if isinstance(value, str) else value


def _volume(value: Any) -> Any:
    return {"source": value} if isinstance(value, str) else value


def _places(value: dict[str, Volume]) -> dict[str, Volume]:
    for place in value:
        if not re.fullmatch(PLACE_FORM, place) or posixpath.normpath(place) in ("/", "//"):
            raise ValueError(f'"{place}" is no place in a container: say "/data"')
    return value


BuildField = Annotated[Build, BeforeValidator(_build, json_schema_input_type=str | Build)]
VolumeField = Annotated[Volume, BeforeValidator(_volume, json_schema_input_type=str | Volume)]


class Program(Model):
    """What is started: a command of the release, or an image."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": [key]} for key in ("run", "image", "build")]}
    )

    run: Command = ()
    """The command: a list, or a string split as shell words; no shell runs it. With an image it
    may be absent: then the image's own."""
    image: ImageName | None = None
    """The image that it runs in, say "ghcr.io/me/web:1" (needs --target docker)."""
    build: BuildField | None = None
    """A folder with a Dockerfile, or { context, dockerfile, target, args }, or { base } for an
    image of source and setup: it is built (needs --target docker)."""
    entrypoint: Command | None = None
    """Instead of the image's own entrypoint."""
    user: Annotated[str, Field(pattern=USER_FORM)] | None = None
    """Who runs it in the container: a name or number, also USER:GROUP; absent: the image's."""
    volumes: Annotated[dict[str, VolumeField], AfterValidator(_places)] = Field(
        default_factory=dict
    )
    """Places in the container and what is there: { "/media" = "${media.path}" }."""
    hosts: Annotated[dict[str, str], AfterValidator(_hosts)] = Field(default_factory=dict)
    """Names that the container finds at an address of its own: { "old.example.com" = "10.0.0.5" };
    "host-gateway" is the machine's."""

    @property
    def packed(self) -> bool:
        """Whether an image is what runs: each replica has a network and a file system to itself."""
        return self.image is not None or self.build is not None

    @property
    def derived(self) -> bool:
        """Whether its image is made of the source folder and setup."""
        return self.build is not None and self.build.base is not None

    @model_validator(mode="after")
    def _startable(self) -> Self:
        if self.packed and not self.derived:
            return self
        if not self.run:
            raise ValueError('key "run" is missing')
        foreign, fault = ["entrypoint", "user"], "is of images of others"
        if not self.derived:
            foreign, fault = [*foreign, "volumes", "hosts", "aliases"], "needs image or build"
        given = [key for key in foreign if key in self.model_fields_set]
        if given:
            raise ValueError("; ".join(f"{key} {fault}" for key in given))
        return self
