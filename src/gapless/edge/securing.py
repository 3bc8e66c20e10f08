"""Certificates and challenges of a running edge: changed through its sockets, no reload.

A certificate that is put in force here is gone with the process: whoever does it also writes the
file that the next start and reload read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gapless.edge import asking, base, files, talk, tls, wire
from gapless.edge import config as conf


class Securing(asking.Asking):
    """The part of ``edge.base.Edge`` that is about TLS. ``home`` keeps the configuration."""

    home: Path

    async def certificates(self) -> Mapping[str, int]:
        """Serial numbers by name, as new connections are shown them."""
        found: dict[str, int] = {}
        secure = (await self._present()).tls
        if secure is None:
            return found
        for name in secure.certificates:
            answer = await self._answer([wire.show_certificate(tls.file(secure.folder, name))])
            if (serial := wire.serial(answer)) is not None:
                found[name] = serial
        return found

    async def certify(self, name: str, pem: str) -> None:
        """New connections are shown another certificate; those there are go on.

        Raises Unfit when HAProxy does not take it: then the one before stays.
        """
        secure = (await self._present()).tls
        if secure is None or name not in secure.certificates:
            raise talk.refused("set ssl cert", f"the edge has no certificate {name}")
        if len(pem.encode()) > tls.PAYLOAD_LIMIT:
            raise _unfit(name, f"more than {tls.PAYLOAD_LIMIT} bytes with its chain")
        path = tls.file(secure.folder, name)
        answer = await self._answer([wire.set_certificate(path, pem)])
        if other := wire.other_transaction(answer):
            # Of a controller that died half-way.
            await self._answer([wire.abort_certificate(other)])
            answer = await self._answer([wire.set_certificate(path, pem)])
        if not wire.transaction_begun(answer):
            raise _unfit(name, answer)
        answer = await self._answer([wire.commit_certificate(path)])
        if not wire.committed(answer):
            await self._answer([wire.abort_certificate(path)])
            raise _unfit(name, answer)

    async def challenges(self, answers: Mapping[str, str]) -> None:
        """What an authority is answered from now on, by path; nothing else is.

        In a file too, for a reload on the way.
        """
        path = self.run / tls.CHALLENGES
        lines = [f"{key} {value}" for key, value in answers.items()]
        self._put(path, "".join(f"{line}\n" for line in lines))
        orders = [wire.clear_map(str(path))]
        orders += [wire.add_map(str(path), key, value) for key, value in answers.items()]
        if problems := wire.refusals(await self._answer(orders)):
            raise talk.refused("; ".join(orders), "; ".join(problems))

    async def _present(self) -> conf.Config:
        digest = self._info(await self._answer([wire.INFO])).digest
        return files.known(self.home, digest)


def _unfit(name: str, answer: str) -> base.Unfit:
    said = " ".join(answer.split())
    return base.Unfit(
        f"edge: HAProxy does not take the certificate {name}: {said}",
        command="set ssl cert",
        answer=said,
    )
