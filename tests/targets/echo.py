"""A real server that tells what it was asked, in ways that a balancer could spoil."""

from __future__ import annotations

import asyncio

from aiohttp import web

from tests.edge import stand


class Echo(stand.App):
    """Its kind is its name without digits: ``web1`` says ``web``."""

    opened: asyncio.Event

    async def start(self) -> Echo:
        self.opened = asyncio.Event()
        await super().start()
        return self

    async def _any(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.served += 1
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        last = request.path.rpartition("/")[2]
        if last == "cut":
            assert request.transport is not None
            request.transport.abort()
        if last == "events":
            return await self._events(request)
        headers = {"X-Served-By": self.name, "Cache-Control": "max-age=7"}
        status = self.status
        if last == "careful":
            headers.update({"Referrer-Policy": "no-referrer", "X-Powered-By": "x", "Server": "y"})
        if last == "shared":
            own = dict.fromkeys(["Origin", "Credentials", "Methods", "Headers"], "own")
            headers.update({f"Access-Control-Allow-{name}": said for name, said in own.items()})
            headers.update({"Access-Control-Max-Age": "7", "Vary": "Accept-Encoding, origin"})
            headers["Access-Control-Expose-Headers"] = "X-Own"
        if last == "redirect":
            status, headers["Location"] = 302, "/there?x=1"
        if last == "absolute":
            status, headers["Location"] = 307, f"http://{request.host}/there"
        if last.isdigit():
            status = int(last)
        more = "x" * 5000 if last == "long" else ""
        said = (
            more
            + f"{self.name.rstrip('0123456789')} {request.method} {request.raw_path} {len(body)}"
        )
        return web.Response(text=said, status=status, headers=headers)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """One event at once, another when the first has been seen."""
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        await stream.write(b"data: 1\n\n")
        await self.opened.wait()
        await stream.write(b"data: 2\n\n")
        return stream
