"""TLS of the public frontend: policy, certificates, redirect, HSTS, ACME challenges. Pure.

The certificates themselves are no part of it: they change at run time, and nothing is reloaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gapless import errors
from gapless.edge import words

LIST = "edge-certificates.list"
"""Names the files of certificates to HAProxy, one a line; the first is shown to whoever asks for
a name that none of them covers, or for none."""
CHALLENGES = "edge-challenges.map"
CHALLENGE_PATH = "/.well-known/acme-challenge/"
LISTENER = "tls"
"""What listeners that speak TLS are called, so that a worker's successor, which gets a connection
without its TLS, knows of it too."""
PAYLOAD_LIMIT = 15_000
"""Bytes of certificate, chain and key: HAProxy reads them into one buffer of 16 KiB."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What is spoken: Mozilla's "intermediate" without its two ciphers for finite-field DH."""

    least: str = "TLSv1.2"
    ciphers: tuple[str, ...] = (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
    )
    suites: tuple[str, ...] = (
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
    )
    curves: tuple[str, ...] = ("X25519", "P-256", "P-384")
    options: tuple[str, ...] = ("no-tls-tickets", "prefer-client-ciphers")
    """No tickets: their keys live as long as the process, and who gets one reads what was said."""


POLICY = Policy()


@dataclass(frozen=True, slots=True)
class Tls:
    """``folder`` holds ``NAME.pem`` for each of ``certificates``; the first one is the default.

    ``name``, ``port``: where plain requests are sent that do not say a host; ``port`` for all.
    ``hsts``: the header's value, "" for none. ``challenge``: whether an authority's questions
    are answered (``wire.answer``). ``stapled``: certificates whose authority is asked whether they
    still are good, and its word shown along; each must say whom to ask, and come with its chain.
    """

    folder: str
    certificates: tuple[str, ...]
    name: str
    port: int
    hsts: str = ""
    challenge: bool = False
    stapled: tuple[str, ...] = ()


def file(folder: str, certificate: str) -> str:
    """The certificate's file, with chain and key, as HAProxy is told of it."""
    return f"{folder}/{_name(certificate)}.pem"


def listing(tls: Tls) -> str:
    """The text of ``LIST``."""
    options = dict.fromkeys(tls.stapled, " [ocsp-update on]")
    return "".join(f"{_name(name)}.pem{options.get(name, '')}\n" for name in tls.certificates)


def global_lines(tls: Tls, policy: Policy | None = None) -> list[str]:
    """For the section ``global``."""
    return [
        f"crt-base {words.quote(tls.folder, what='the state directory')}",
        *policy_lines(policy),
    ]


def policy_lines(policy: Policy | None = None) -> list[str]:
    """What is spoken, by every listener of the process."""
    asked = policy or POLICY
    return [
        f"ssl-default-bind-options ssl-min-ver {asked.least} {' '.join(asked.options)}",
        f"ssl-default-bind-ciphers {':'.join(asked.ciphers)}",
        f"ssl-default-bind-ciphersuites {':'.join(asked.suites)}",
        f"ssl-default-bind-curves {':'.join(asked.curves)}",
    ]


def bind_words(run_dir: str, name: str = LISTENER) -> str:
    """What makes a listener of that name (``acl``) speak TLS."""
    listed = words.quote(f"{run_dir}/{LIST}", what="the run directory")
    return f"name {name} ssl crt-list {listed} alpn h2,http/1.1"


def acl() -> str:
    """``over-tls``: whether the client speaks TLS with this worker, or did with the one before."""
    return f"acl over-tls so_name -m str {LISTENER} front-{LISTENER}"


def challenge_lines(tls: Tls, run_dir: str) -> list[str]:
    """Answers for the authority: before anything that could turn it away."""
    if not tls.challenge:
        return []
    held = words.quote(f"path,map_str({run_dir}/{CHALLENGES})", what="the run directory")
    asked = f"{{ path -m beg {CHALLENGE_PATH} }}"
    return [
        f"http-request set-var(txn.challenge) {held} if {asked}",
        "http-request return status 200 content-type 'text/plain' hdr Cache-Control 'no-store'"
        " lf-string '%[var(txn.challenge)]' if { var(txn.challenge) -m found }",
    ]


def redirect_lines(tls: Tls, *, proxied: bool = False) -> list[str]:
    """Plain requests to TLS: GET and HEAD as browsers have always understood it, others by 308,
    which keeps the method and the body. ``proxied``: one that came by TLS to a trusted proxy
    (``forwarded.client``) is none."""
    port = "" if tls.port == 443 else f":{int(tls.port)}"
    named = words.quote(f"https://%[req.hdr(host),host_only]{port}%[pathq]")
    nameless = words.quote(f"https://{_host(tls.name)}{port}%[pathq]")
    plain = "{ var(txn.plain) -m bool }"
    lines = [
        "http-request set-var(txn.plain) bool(true) if !over-tls",
        f"http-request set-var(txn.host) req.hdr(host),host_only if {plain}",
    ]
    if proxied:
        by_tls = "{ var(txn.proxied) -m bool } { req.fhdr(X-Forwarded-Proto) -m str https }"
        lines.insert(1, f"http-request unset-var(txn.plain) if {by_tls}")
    for location, test in ((named, "{ var(txn.host) -m len gt 0 }"), (nameless, "")):
        for code, method in ((301, "METH_GET"), (308, "")):
            tests = " ".join(part for part in (plain, test, method) if part)
            lines.append(f"http-request redirect code {code} location {location} if {tests}")
    return lines


def response_lines(tls: Tls) -> list[str]:
    """HSTS, on what the edge answers by itself too."""
    if not tls.hsts:
        return []
    value = words.quote(tls.hsts)
    return [f"http-after-response set-header Strict-Transport-Security {value} if over-tls"]


def not_possible(texts: Mapping[str, str]) -> None:
    """Raises UsageError where a directory's name would mean something to HAProxy."""
    for what, text in texts.items():
        if re.search(r"[,()'\"\\\s]", text):
            raise errors.UsageError(
                f"edge: {what} {text!r} cannot be used with TLS",
                hint="set GAPLESS_STATE to a path without spaces, commas, quotes and brackets",
            )


def _name(certificate: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", certificate):
        raise errors.UsageError(f"edge: not a possible name of a certificate: {certificate!r}")
    return certificate


def _host(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9.-]{1,253}|\[[0-9a-f:]+\]", name):
        raise errors.UsageError(f"edge: not a possible host: {name!r}")
    return name
