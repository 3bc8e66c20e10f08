"""One order at an ACME authority (RFC 8555): from a new key to a certificate with its chain.

Everything here waits for the network and may take a minute: it runs in a thread of its own.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gapless import errors
from gapless.engine.certificates import x509

PATIENCE = 90.0
"""Seconds that an authority may take over one order."""
ANSWER = 20
"""Seconds that it may take over one exchange."""
NONCES = 20
"""Times that one message is sent again because the authority had forgotten its nonce."""
ACCOUNT = "edge.acme.account"
"""Whose key the account is, in the secret store."""

Answer = Callable[[Mapping[str, str]], None]
"""Has the edge answer these texts, by path; returns once it does."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Whom to ask. ``account``: private key (DER, base64). ``ca``: file with its own root."""

    directory: str
    account: str
    email: str | None = None
    ca: str | None = None


def new_account() -> str:
    """A key for an account: P-256, as ``Authority.account`` has it."""
    x509.needed("cryptography")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return base64.b64encode(key).decode("ascii")


def obtain(authority: Authority, names: tuple[str, ...], answer: Answer) -> str:
    """A bundle for these names. Raises WorkFailed with the authority's own words."""
    x509.needed("acme")
    import acme.errors
    import acme.messages
    import requests

    # Its debug lines quote whole messages; nobody asked for them.
    logging.getLogger("acme").setLevel(logging.WARNING)
    try:
        return _obtain(authority, names, answer)
    except acme.messages.Error as error:
        raise _failed(names, f"the authority refuses: {error.detail or error.code}") from None
    except acme.errors.ValidationError as error:
        raise _failed(names, _invalid(error)) from None
    except acme.errors.TimeoutError:
        raise _failed(names, f"the authority did not finish within {PATIENCE:g} s") from None
    except requests.RequestException as error:
        raise _failed(names, f"the authority cannot be reached: {_cause(error)}") from None
    except (acme.errors.Error, ValueError, KeyError, OSError) as error:
        raise _failed(names, str(error) or type(error).__name__) from None


def _obtain(authority: Authority, names: tuple[str, ...], answer: Answer) -> str:
    import acme.messages

    client = _client(authority)
    key, request = x509.request(names)
    ordered = client.new_order(request.encode())
    open_ = [
        one
        for one in ordered.authorizations
        if one.body.status not in (acme.messages.STATUS_VALID,)
    ]
    chosen = [_by_http(one.body) for one in open_]
    answer({one.chall.path: one.chall.validation(client.net.key) for one in chosen})
    try:
        for one in chosen:
            client.answer_challenge(one, one.chall.response(client.net.key))
        deadline = _moment(PATIENCE)
        finished = client.poll_and_finalize(ordered, deadline)
    finally:
        with contextlib.suppress(errors.GaplessError):
            answer({})
    return x509.bundle(finished.fullchain_pem, key)


def _client(authority: Authority) -> Any:
    import acme.client
    import acme.errors
    import acme.messages
    import josepy.jwa
    import josepy.jwk
    from cryptography.hazmat.primitives import serialization

    class Network(acme.client.ClientNetwork):
        """The library repeats a message once that met a bad nonce; busy authorities lose more."""

        def post(self, *args: Any, **kwargs: Any) -> Any:
            for left in reversed(range(NONCES)):
                try:
                    return self._post_once(*args, **dict(kwargs))
                except acme.messages.Error as error:
                    if error.code != "badNonce" or not left:
                        raise
                    self._nonces.clear()
            raise AssertionError("unreachable")

    private = serialization.load_der_private_key(base64.b64decode(authority.account), None)
    net = Network(
        josepy.jwk.JWKEC(key=private), alg=josepy.jwa.ES256, user_agent="gapless", timeout=ANSWER
    )
    if authority.ca is not None:
        vars(net)["verify_ssl"] = authority.ca  # requests takes a file there too
    directory = acme.client.ClientV2.get_directory(authority.directory, net)
    client = acme.client.ClientV2(directory, net)
    wish = acme.messages.NewRegistration.from_data(
        email=authority.email, terms_of_service_agreed=True
    )
    try:
        client.new_account(wish)
    except acme.errors.ConflictError as known:
        net.account = acme.messages.RegistrationResource(
            uri=known.location, body=acme.messages.Registration()
        )
    return client


def _by_http(body: Any) -> Any:
    import acme.challenges

    for one in body.challenges:
        if isinstance(one.chall, acme.challenges.HTTP01):
            return one
    raise ValueError(f"the authority does not ask {body.identifier.value} by HTTP")


def _invalid(error: Any) -> str:
    """What the authority saw, of each name."""
    said = [
        f"{one.body.identifier.value}: {each.error.detail or each.error.code}"
        for one in error.failed_authzrs
        for each in one.body.challenges
        if each.error is not None
    ]
    return "; ".join(dict.fromkeys(said)) or "the authority could not verify the name"


def _cause(error: BaseException) -> str:
    """The innermost words: the libraries wrap each other's."""
    text = str(error)
    last = text.rpartition(": ")[2].strip("'\" ").rstrip(")'\"")
    return (f"{last})" if last.count("(") > last.count(")") else last) or type(error).__name__


def _failed(names: tuple[str, ...], why: str) -> errors.WorkFailed:
    return errors.WorkFailed(
        f"certificate for {', '.join(names)}: {why}",
        hint="the authority must reach each name at port 80 of this machine",
    )


def _moment(seconds: float) -> datetime.datetime:
    # The library compares with local time without a zone.
    return datetime.datetime.now() + datetime.timedelta(seconds=seconds)  # noqa: DTZ005
