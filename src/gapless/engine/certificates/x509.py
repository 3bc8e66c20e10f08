"""What is in a certificate, whether it may be used, and certificates of our own making.

Needs the package cryptography; what else imports this module waits until it needs it too. A
*bundle* is what the edge reads: the certificate, its chain and its private key in one PEM text.
"""

from __future__ import annotations

import datetime
import importlib
import ipaddress
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gapless import errors

EARLIER = datetime.timedelta(hours=1)
"""A new one is valid since so long: clients' clocks may be late."""
HINT = "pip install 'gapless[tls]'"
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s.*?-----END \1-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Facts:
    """Of the first certificate of a bundle. Moments are seconds since 1970.

    ``own``: it vouches for itself. ``asks``: it says whom to ask whether it still is good (OCSP),
    and comes with whoever signed it, without whom nobody could.
    """

    names: tuple[str, ...]
    issuer: str
    serial: int
    starts_at: float
    ends_at: float
    own: bool
    asks: bool = False


def needed(package: str) -> Any:
    """A package of the extra ``tls``. Raises EnvironmentFault, saying how to get it."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise errors.EnvironmentFault(
            f"edge: TLS needs {package}, which is not installed", hint=HINT
        ) from None


def facts(bundle: str) -> Facts:
    """Raises ValueError where no certificate is."""
    found = _certificates(bundle)
    leaf = found[0]
    return Facts(
        names=_names(leaf),
        issuer=_common_name(leaf.issuer),
        serial=leaf.serial_number,
        starts_at=leaf.not_valid_before_utc.timestamp(),
        ends_at=leaf.not_valid_after_utc.timestamp(),
        own=leaf.issuer == leaf.subject,
        asks=len(found) > 1 and _responder(leaf),
    )


def bundle(chain: str, key: str) -> str:
    """Certificates, then key, each once and without what stands around them. Raises ValueError."""
    blocks = [found[0] for found in _BLOCK.finditer(chain) if found[1] == "CERTIFICATE"]
    keys = [found[0] for found in _BLOCK.finditer(key) if found[1].endswith("PRIVATE KEY")]
    if not blocks or len(keys) != 1:
        raise ValueError("no certificate" if not blocks else "not one private key")
    texts = [*blocks, keys[0]]
    return "".join(re.sub(r"\s*\n\s*", "\n", text.strip()) + "\n" for text in texts)


def fault(text: str, names: Iterable[str], now: float) -> str:
    """Why a bundle must not be shown to anybody; "": it may.

    Looked at are the key, each link of the chain, the dates, and that all ``names`` are covered.
    """
    _needed_all()
    from cryptography.hazmat.primitives import serialization

    try:
        found = _certificates(text)
        key = serialization.load_pem_private_key(_key(text), password=None)
    except (ValueError, TypeError) as error:
        return f"cannot be read: {error}"
    leaf = found[0]
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        return "the private key is another certificate's"
    for below, above in itertools.pairwise(found):
        try:
            below.verify_directly_issued_by(above)
        except Exception:  # whatever it is, the link does not hold
            return f"the chain is broken: {above.subject.rfc4514_string()} is not who signed it"
    if now < leaf.not_valid_before_utc.timestamp():
        return f"it is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M}"
    if now >= leaf.not_valid_after_utc.timestamp():
        return f"it ended on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M}"
    missing = [name for name in names if not covers(_names(leaf), name)]
    return f"it is not for {', '.join(missing)}" if missing else ""


def covers(names: Iterable[str], wanted: str) -> bool:
    """Whether a certificate for ``names`` is one for this name too. Pure."""
    _, _, parent = wanted.partition(".")
    return any(name in (wanted, f"*.{parent}") for name in map(str.lower, names))


def self_signed(names: Iterable[str], days: float, now: float) -> str:
    """A bundle that vouches for itself, on a new P-256 key."""
    _needed_all()
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    listed = list(names)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, listed[0][:64])])
    start = datetime.datetime.fromtimestamp(now, datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - EARLIER)
        .not_valid_after(start + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in listed]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .sign(key, hashes.SHA256())
    )
    return bundle(_pem(made), _private(key))


def request(names: Iterable[str]) -> tuple[str, str]:
    """A new P-256 key, and the request for a certificate on it; both PEM."""
    _needed_all()
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    asked = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), False)
        .sign(key, hashes.SHA256())
    )
    return _private(key), asked.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _needed_all() -> None:
    needed("cryptography")


def _certificates(text: str) -> list[Any]:
    x509 = needed("cryptography.x509")
    found = x509.load_pem_x509_certificates(text.encode())
    if not found:
        raise ValueError("no certificate")
    return list(found)


def _key(text: str) -> bytes:
    for found in _BLOCK.finditer(text):
        if found[1].endswith("PRIVATE KEY"):
            return found[0].encode()
    raise ValueError("no private key")


def _names(leaf: Any) -> tuple[str, ...]:
    from cryptography import x509

    try:
        listed = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    hosts = [str(name).lower() for name in listed.get_values_for_type(x509.DNSName)]
    return (*hosts, *(str(ip) for ip in listed.get_values_for_type(x509.IPAddress)))


def _responder(leaf: Any) -> bool:
    from cryptography import x509
    from cryptography.x509.oid import AuthorityInformationAccessOID

    try:
        access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return False
    return any(one.access_method == AuthorityInformationAccessOID.OCSP for one in access)


def _common_name(name: Any) -> str:
    from cryptography.x509.oid import NameOID

    for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        if found := name.get_attributes_for_oid(oid):
            return str(found[0].value)
    return str(name.rfc4514_string())


def _general(name: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: Any) -> str:
    from cryptography.hazmat.primitives import serialization

    return str(certificate.public_bytes(serialization.Encoding.PEM).decode("ascii"))


def _private(key: Any) -> str:
    from cryptography.hazmat.primitives import serialization

    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return str(text.decode("ascii"))
