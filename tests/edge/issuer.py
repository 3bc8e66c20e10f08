"""An authority in memory, with a responder that says which of its certificates still are good."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from gapless.drills import ports
from tests.edge import stand

DAY = datetime.timedelta(days=1)


@dataclass
class Issuer:
    """``asked``: the serial numbers that somebody wanted to know about."""

    port: int = field(default_factory=ports.reserve)
    asked: list[int] = field(default_factory=list)
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def __post_init__(self) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority")])
        basic = x509.BasicConstraints(ca=True, path_length=0)
        self.own = self._built(self.name, self.key.public_key()).add_extension(basic, True)
        self.certificate = self.own.sign(self.key, hashes.SHA256())
        self.issued: dict[int, x509.Certificate] = {}

    def _built(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return x509.CertificateBuilder(
            self.name, subject, key, x509.random_serial_number(), now - DAY, now + 30 * DAY
        )

    def bundle(self, name: str) -> str:
        """A certificate for a name, with its chain and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        access = x509.AccessDescription(
            AuthorityInformationAccessOID.OCSP,
            x509.UniformResourceIdentifier(f"http://127.0.0.1:{self.port}/"),
        )
        leaf = (
            self._built(x509.Name([]), key.public_key())
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
            .add_extension(x509.AuthorityInformationAccess([access]), False)
            .sign(self.key, hashes.SHA256())
        )
        self.issued[leaf.serial_number] = leaf
        pem = serialization.Encoding.PEM
        private = key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return "".join(
            part.decode()
            for part in (leaf.public_bytes(pem), self.certificate.public_bytes(pem), private)
        )

    async def _answer(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            body = await request.read()
        else:
            import base64
            from urllib.parse import unquote

            body = base64.b64decode(unquote(request.raw_path.lstrip("/")))
        asked = ocsp.load_der_ocsp_request(body)
        self.asked.append(asked.serial_number)
        now = datetime.datetime.now(datetime.UTC)
        answer = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                cert=self.issued[asked.serial_number],
                issuer=self.certificate,
                algorithm=asked.hash_algorithm,
                cert_status=ocsp.OCSPCertStatus.GOOD,
                this_update=now - DAY,
                next_update=now + DAY,
                revocation_time=None,
                revocation_reason=None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, self.certificate)
            .sign(self.key, hashes.SHA256())
        )
        return web.Response(
            body=answer.public_bytes(serialization.Encoding.DER),
            content_type="application/ocsp-response",
        )


@asynccontextmanager
async def issuing() -> AsyncIterator[Issuer]:
    """One that answers."""
    made = Issuer()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", made._answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", made.port).start()
    try:
        yield made
    finally:
        await stand.clean_up(runner)
