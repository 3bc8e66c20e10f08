"""State that gapless operates."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gapless.model.image import ImageName
from gapless.model.units import Model

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "postgres": ("url", "pool_url", "replica_url", "host", "port", "user", "password", "database"),
    "redis": ("url", "host", "port", "user", "password", "database"),
    "files": ("path",),
}
"""What ``${name.attribute}`` may ask of each type."""


class Data(Model):
    """A store. With ``url`` it is external: same attributes, nothing is started."""

    type: Literal["postgres", "redis", "files"]
    """What it is."""
    version: Annotated[int, Field(ge=1)] | None = None
    """Major version of the engine; absent: what the machine offers."""
    image: ImageName | None = None
    """The image that its server runs in, say "postgres:18" (needs --target docker)."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Port on the loopback interface, or of its container; absent: a free one, kept."""
    settings: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """Server settings by their own names, say { max_connections = 200 }."""
    url: str | None = None
    """Makes it external: "${secret.DB_URL}"."""

    @property
    def contained(self) -> bool:
        """Whether its server runs in a container."""
        return self.image is not None

    @property
    def runs(self) -> bool:
        """Whether a server of ours runs for it."""
        return self.type != "files" and self.url is None

    @model_validator(mode="after")
    def _logical(self) -> Self:
        if self.type == "files" and (self.version or self.port or self.settings or self.url):
            raise ValueError("files takes no version, port, settings or url")
        if self.url is not None and (self.version or self.port or self.settings):
            raise ValueError("an external store takes no version, port or settings")
        if self.image is not None and not self.runs:
            raise ValueError("image is of a store whose server runs here")
        return self
