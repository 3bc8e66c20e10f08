"""Files through a real edge from a real server of files: what clients get, and what they do not."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
from tests.edge import stand
from tests.real.test_edge_answers import raw

from gapless import observed
from gapless.core import capacity
from gapless.edge import config, static, staticconf, staticserver
from gapless.edge.answers import Answers
from gapless.engine import machine
from gapless.model.process import Address

HASHED = "app-5d41402abc4b.js"
SCRIPT = "export default 'old';\n" * 100
EVER = "public, max-age=31536000, immutable"


@dataclass
class Served:
    """``root`` has a folder for each release; ``ask`` goes through the edge."""

    place: stand.Stand
    root: Path
    server: staticserver.StaticServer
    client: aiohttp.ClientSession
    files: staticconf.Files = field(default_factory=staticconf.Files)
    child: subprocess.Popen[bytes] | None = None

    def write(self, name: str, content: str | bytes) -> Path:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    async def serve(self, *mounts: staticconf.Mount) -> None:
        """These, from now on: started, or by a reload."""
        self.files = staticconf.Files(mounts, workers=2)
        old: tuple[int, ...] = ()
        if self.child is None:
            process = await asyncio.to_thread(self.server.process, self.files)
            self._spawn(process.argv)
        else:
            await asyncio.to_thread(self.server.install, self.files)
            old = staticserver.workers(self.child.pid)
            assert len(old) >= self.files.workers
            self.child.send_signal(signal.SIGHUP)
        await self.server.await_config(staticconf.digest(self.files), old)
        await self.place.edge.serve(staticconf.digest(self.files))

    def _spawn(self, argv: tuple[str, ...]) -> None:
        self.child = subprocess.Popen(argv)

    async def ask(
        self, path: str, method: str = "GET", **headers: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named.setdefault("Accept-Encoding", "identity")
        url = f"{self.place.url}{path}"
        async with self.client.request(method, url, headers=named, allow_redirects=False) as answer:
            return answer.status, answer.headers, await answer.read()

    def mount(self, *folders: str, path: str = "/static", **other: Any) -> staticconf.Mount:
        return staticconf.Mount(path, str(self.root), folders, **{"lasting": True, **other})

    async def served(self) -> int:
        """Requests that services got."""
        found = await self.place.edge.counters()
        return sum(one.requests for name, one in found.items() if name in ("web", "api"))


@contextlib.asynccontextmanager
async def serving(*paths: str) -> AsyncIterator[Served]:
    """An edge that gives ``paths`` to a server of files, and all else to an app."""
    async with stand.standing(started=False) as stood:
        folder = stood.root / "run" / "static"
        folder.mkdir()
        address = Address(socket=str(folder / "s"))
        wanted = static.Static(tuple(sorted(paths or ("/static",))), str(folder / "s"))
        # Where we are root, its workers are not.
        stood.root.chmod(0o711)
        limits = replace(machine.limits(), aside=static.DESCRIPTORS)
        stood.config = replace(
            stood.config,
            static=wanted,
            answers=Answers(compress=True),
            maxconn=capacity.at_edge(limits),
        )
        await stood.start()
        server = staticserver.StaticServer(stood.root / "files", address)
        root = stood.root / "releases"
        async with aiohttp.ClientSession(auto_decompress=False) as client:
            served = Served(stood, root, server, client)
            await stood.enter(await stood.app("one"))
            try:
                yield served
            finally:
                if served.child is not None:
                    served.child.terminate()
                    served.child.wait(stand.PATIENCE)


async def test_what_clients_get() -> None:
    async with serving() as served:
        served.write(f"r1/{HASHED}", SCRIPT)
        served.write("r1/site.css", "body { color: red }")
        served.write("r1/docs/index.html", "<h1>docs</h1>")
        served.write("r1/data.bin", bytes(range(256)))
        await served.serve(served.mount("r1"))
        status, headers, body = await served.ask(f"/static/{HASHED}")
        assert (status, body.decode()) == (200, SCRIPT)
        assert headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert headers["Cache-Control"] == EVER
        status, headers, body = await served.ask("/static/site.css")
        assert headers["Content-Type"] == "text/css; charset=utf-8"
        assert headers["Cache-Control"] == "no-cache"
        tag, since = headers["ETag"], headers["Last-Modified"]
        for asked in ({"If_None_Match": tag}, {"If_Modified_Since": since}):
            status, headers, body = await served.ask("/static/site.css", **asked)
            assert (status, body, headers["ETag"]) == (304, b"", tag)
        status, headers, body = await served.ask("/static/site.css", "HEAD")
        assert (status, body, headers["ETag"]) == (200, b"", tag)
        status, headers, body = await served.ask("/static/data.bin", Range="bytes=10-19")
        assert (status, body) == (206, bytes(range(10, 20)))
        assert headers["Content-Range"] == "bytes 10-19/256"
        # A kept file in memory has parts too.
        status, _, body = await served.ask(f"/static/{HASHED}", Range="bytes=0-5")
        assert (status, body) == (206, b"export")
        status, _, body = await served.ask("/static/docs/")
        assert (status, body) == (200, b"<h1>docs</h1>")
        status, headers, _ = await served.ask("/static?a=b")
        assert (status, headers["Location"]) == (308, "/static/?a=b")
        assert (await served.ask("/static/site.css", "POST"))[0] == 405
        assert await served.served() == 0


async def test_a_folder_without_its_slash() -> None:
    """As nginx does it, and with a place that is right under any name of the site."""
    async with serving("/static", "/app", "/") as served:
        served.write("r1/docs/old/index.html", "old")
        served.write("r2/docs/index.html", "docs")
        served.write("r2/v1.2/a b/index.html", "deep")
        served.write("r2/pictures/a.png", "a")
        served.write("app/index.html", "shell")
        served.write("app/help/index.html", "help")
        served.write("home/about/index.html", "about")
        (served.root / "r2/out").symlink_to(served.root / "r2/docs")
        await served.serve(
            served.mount("r2", "r1"),
            served.mount("app", path="/app", fallback="index.html"),
            served.mount("home", path="/"),
        )
        for path in (
            "/static/docs",
            "/static/docs?a=b%20c&d=/../",
            "/static/docs/old",
            "/static/v1.2/a%20b",
            "/app/help",
        ):
            bare, mark, query = path.partition("?")
            assert await raw(served.place, path) == (301, f"{bare}/{mark}{query}"), path
        _, _, body = await served.ask("/static/v1.2/a%20b/")
        assert body == b"deep"
        for path in ("/static/pictures", "/static/out", "/static/docs/index.html/", "/static/no"):
            assert (await served.ask(path))[0] == 404, path
        assert (await served.ask("/app/pages"))[2] == b"shell"
        # Whoever writes the path writes the place: it must not become another site's, and the
        # server of files does not count on the edge for that.
        for path in ("//static/docs", "//x.example/..%2fabout", "/%5cx.example/../about", "/about"):
            answer = await direct(served, path)
            found = re.search(rb"\nLocation: *(\S*)", answer)
            assert found is None or re.fullmatch(rb"/[^/\\].*", found[1]), (path, answer)
        assert found is not None
        answer = await direct(served, "/static/docs%0d%0aX-Evil:%201")
        assert answer.startswith(b"HTTP/1.1 404 ")


async def direct(served: Served, path: str) -> bytes:
    """What the server of files itself answers."""
    reader, writer = await asyncio.open_unix_connection(served.server.socket)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), stand.PATIENCE)
    writer.close()
    return answer


async def test_what_clients_do_not_get() -> None:
    async with serving() as served:
        secret = served.write("secret", "root:secret")
        served.write("r1/a.txt", "a")
        served.write("r1/.env", "root:secret")
        served.write("r1/.git/config", "root:secret")
        served.write("r1/.well-known/security.txt", "hello")
        served.write("r1/dir/b.txt", "b")
        (served.root / "r1/link.txt").symlink_to(secret)
        (served.root / "r1/out").symlink_to(served.root)
        (served.root / "r1/in.txt").symlink_to("a.txt")
        closed = served.write("r1/closed.txt", "root:secret")
        closed.chmod(0)
        await served.serve(served.mount("r1"))
        assert (await served.ask("/static/.well-known/security.txt"))[2] == b"hello"
        for path in (
            "/static/.env",
            "/static/.git/config",
            "/static/%2egit/config",
            "/static/link.txt",
            "/static/in.txt",
            "/static/out/secret",
            "/static/nothing.txt",
            "/static/dir",
            "/static/dir/",
            "/static/../secret",
            "/static/%2e%2e/secret",
            "/static/..%2fsecret",
            "/static/%2e%2e%2fsecret",
            "/static/dir/../../secret",
            "/static/dir/%2e%2e/%2e%2e/secret",
            "/static//etc/passwd",
            "/static/a.txt/",
            "/static/a.txt%00.js",
            "/static/%5c..%5csecret",
        ):
            status, body = await plain(served.place, path)
            assert status in (400, 404), (path, status)
            assert b"root:" not in body, path
        if os.geteuid() != 0:
            assert (await served.ask("/static/closed.txt"))[0] == 404
        assert (await served.ask("/static/nothing.txt"))[1]["Cache-Control"] == "no-store"


async def plain(stood: stand.Stand, path: str) -> tuple[int, bytes]:
    """Status and the whole answer, to a path that no client would send."""
    host, _, port = stood.config.listen.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), stand.PATIENCE)
    writer.close()
    return int(answer.split()[1]), answer


async def test_encodings() -> None:
    async with serving() as served:
        served.write("r1/a.js", SCRIPT)
        served.write("r1/a.js.gz", gzip.compress(SCRIPT.encode()))
        served.write("r1/a.js.br", b"pretend brotli")
        served.write(f"r1/{HASHED}", SCRIPT)
        served.write(f"r1/{HASHED}.gz", gzip.compress(SCRIPT.encode()))
        served.write("r1/b.css", SCRIPT)
        served.write("r1/c.tar.gz", gzip.compress(b"tar"))
        await served.serve(served.mount("r1"))
        cases = {
            "gzip, deflate, br": "br",
            "br;q=0, gzip;q=0.5": "gzip",
            "gzip;q=0": None,
            "identity": None,
            "brr, x-gzip": None,
        }
        tags = set()
        for accepted, encoding in cases.items():
            _, headers, body = await served.ask("/static/a.js", Accept_Encoding=accepted)
            assert headers.get("Content-Encoding") == encoding, accepted
            assert headers["Content-Type"].startswith("text/javascript")
            assert "accept-encoding" in headers["Vary"].lower()
            tags.add(headers["ETag"])
            if encoding == "gzip":
                assert gzip.decompress(body).decode() == SCRIPT
        assert len(tags) == 3
        for _ in range(3):  # each from memory the second time, and never the other's
            for accepted in ("gzip", "identity"):
                _, headers, body = await served.ask(f"/static/{HASHED}", Accept_Encoding=accepted)
                text = gzip.decompress(body) if accepted == "gzip" else body
                assert text.decode() == SCRIPT
                assert headers["Cache-Control"] == EVER
        _, headers, body = await served.ask("/static/b.css", Accept_Encoding="gzip")
        assert gzip.decompress(body).decode() == SCRIPT  # by the edge
        _, headers, body = await served.ask("/static/c.tar.gz", Accept_Encoding="gzip")
        assert (headers["Content-Type"], gzip.decompress(body)) == ("application/gzip", b"tar")
        assert "Content-Encoding" not in headers


async def test_old_files_stay_and_new_ones_come_first() -> None:
    async with serving() as served:
        served.write("r1/index.html", "one")
        served.write(f"r1/{HASHED}", "old")
        served.write("r2/index.html", "two")
        served.write("r2/app-7d793037a076.js", "new")
        await served.serve(served.mount("r1"))
        assert (await served.ask("/static/"))[2] == b"one"
        assert (await served.ask("/static/app-7d793037a076.js"))[0] == 404
        stop = asyncio.Event()
        asked, wrong = 0, []
        cases = {"/static/": (b"one", b"two"), f"/static/{HASHED}": (b"old",)}

        async def pages() -> None:
            nonlocal asked
            while not stop.is_set():
                for path, good in cases.items():
                    status, _, body = await served.ask(path)
                    asked += 1
                    if status != 200 or body not in good:
                        wrong.append((path, status, body))

        clients = [asyncio.create_task(pages()) for _ in range(4)]
        try:
            for _ in range(3):
                await served.serve(served.mount("r2", "r1"))
                assert (await served.ask("/static/"))[2] == b"two"
                assert (await served.ask("/static/app-7d793037a076.js"))[2] == b"new"
                await served.serve(served.mount("r1", "r2"))
                assert (await served.ask("/static/"))[2] == b"one"
        finally:
            stop.set()
            await asyncio.gather(*clients)
        assert wrong == []
        assert asked > 0
        # One that is kept no longer is looked into no longer, and what clients hold lasts.
        await served.serve(served.mount("r2"))
        assert (await served.ask(f"/static/{HASHED}"))[0] in (200, 404)
        assert (await served.ask("/static/"))[2] == b"two"
        assert await served.served() == 0


async def test_the_edge_keeps_any_file_of_what_is_served() -> None:
    """``Age`` says that an answer came from memory; nothing else of it differs."""
    async with serving() as served:
        served.write("r1/site.css", SCRIPT)
        served.write("r1/photo.png", b"p" * 100_000)
        for name in ("site.css", "photo.png"):
            await served.serve(served.mount("r1"))
            path, kept = f"/static/{name}", ("ETag", "Last-Modified", "Cache-Control", "Vary")
            (_, first, body), (_, again, same) = [await served.ask(path) for _ in range(2)]
            assert ("Age" in first, "Age" in again, body) == (False, True, same)
            assert [first.get(one) for one in kept] == [again.get(one) for one in kept]
            assert first["Cache-Control"] == "no-cache"
            assert first["Content-Type"] == again["Content-Type"]
            for one in (first, again):
                assert static.KEEP not in one
            for tag in (first["ETag"], f"W/{first['ETag']}"):
                status, headers, body = await served.ask(path, If_None_Match=tag)
                assert (status, body, headers["ETag"]) == (304, b"", first["ETag"])
                assert (headers["Cache-Control"], "Age" in headers) == ("no-cache", True)
            status, headers, body = await served.ask(path, "HEAD")
            assert (status, body, headers["Content-Length"]) == (200, b"", first["Content-Length"])
            status, headers, body = await served.ask(path, Range="bytes=1-3")
            assert (status, len(body), static.KEEP in headers) == (206, 3, False)
        assert (await served.ask("/static/none.css"))[1]["Cache-Control"] == "no-store"
        _, headers, body = await served.ask("/static/site.css", Accept_Encoding="gzip")
        assert ("Age" in headers, gzip.decompress(body).decode()) == (True, SCRIPT)


async def test_it_keeps_nothing_of_other_files() -> None:
    async with serving("/static", "/up") as served:
        served.write("r1/a.css", "old")
        served.write("r2/a.css", "new")
        served.write("up/me.png", b"me")
        served.write("up/app-5d41402abc4b.js", SCRIPT)
        up = served.mount("up", path="/up", lasting=False)
        await served.serve(served.mount("r1"), up)
        told = staticconf.digest(served.files)

        async def ask(path: str) -> tuple[bytes, bool]:
            _, headers, body = await served.ask(path)
            return body, "Age" in headers

        assert [await ask("/static/a.css") for _ in range(2)] == [(b"old", False), (b"old", True)]
        # Files that may change are asked for each time, and it is said that one has.
        assert [await ask("/up/me.png") for _ in range(2)] == [(b"me", False)] * 2
        assert [(await ask("/up/app-5d41402abc4b.js"))[1] for _ in range(2)] == [False, True]
        # Nor is one of them kept open: what was put in its place is there at once.
        served.write("up/next.png", b"you")
        (served.root / "up/next.png").replace(served.root / "up/me.png")
        assert await ask("/up/me.png") == (b"you", False)
        await served.serve(served.mount("r2"), up)
        assert [await ask("/static/a.css") for _ in range(2)] == [(b"new", False), (b"new", True)]
        # An edge that has been told of other files than are served, or of none, keeps nothing.
        for wrong in (told, ""):
            await served.place.edge.serve(wrong)
            path = f"/static/a.css?{wrong}"
            assert [await ask(path) for _ in range(2)] == [(b"new", False)] * 2
        await served.serve(served.mount("r1"), up)
        # What was kept under this very name before is of just these files.
        assert await ask("/static/a.css") == (b"old", True)


async def test_large_files_pass_without_a_copy() -> None:
    """And with one where more want them than there are pipes."""
    async with serving() as served:
        content = os.urandom(2 << 20)
        served.write("r1/film.mp4", content)
        await served.serve(served.mount("r1"))
        before = await spliced(served)
        _, headers, body = await served.ask("/static/film.mp4")
        assert (headers["Content-Type"], body) == ("video/mp4", content)
        assert await spliced(served) - before > len(content) // 2
        many = [served.ask("/static/film.mp4") for _ in range(static.PIPES + 16)]
        assert {(status, body == content) for status, _, body in await asyncio.gather(*many)} == {
            (200, True)
        }
        status, _, body = await served.ask("/static/film.mp4", Range="bytes=1000000-")
        assert (status, body) == (206, content[1_000_000:])


async def spliced(served: Served) -> int:
    """Bytes that the edge has passed on without looking at them."""
    place = f"{served.place.config.run_dir}/{config.STATS_SOCKET}"
    reader, writer = await asyncio.open_unix_connection(place)
    writer.write(b"show info\n")
    answer = await asyncio.wait_for(reader.read(), stand.PATIENCE)
    writer.close()
    found = re.search(rb"TotalSplicedBytesOut: (\d+)", answer)
    assert found is not None
    return int(found[1])


async def test_one_page_apps_and_times() -> None:
    async with serving("/", "/app", "/up") as served:
        served.write("app/index.html", "shell")
        served.write("app/LICENSE", "text")
        served.write("up/photo.jpg", "jpeg")
        served.write("home/robots.txt", "all")
        await served.serve(
            served.mount("app", path="/app", fallback="index.html"),
            served.mount("up", path="/up", cache=3600.0),
            served.mount("home", path="/"),
        )
        for path in ("/app/", "/app/users/7", "/app/users/"):
            status, headers, body = await served.ask(path)
            assert (status, body, headers["Cache-Control"]) == (200, b"shell", "no-cache")
            assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert (await served.ask("/app/LICENSE"))[2] == b"text"
        # A script that is not there is no page: it would fail in stranger ways.
        assert (await served.ask("/app/old.js"))[0] == 404
        _, headers, _ = await served.ask("/up/photo.jpg")
        assert headers["Cache-Control"] == "public, max-age=3600"
        assert headers["Content-Type"] == "image/jpeg"
        # What services publish comes before a folder at /, and this stand's web has all of it.
        assert (await served.ask("/robots.txt"))[2] == b"one"
        assert await raw(served.place, "/app?x=1") == (308, "/app/?x=1")


async def test_maintenance_is_for_files_too() -> None:
    async with serving() as served:
        served.write("r1/a.txt", "a")
        await served.serve(served.mount("r1"))
        await served.place.edge.maintenance(True)
        assert (await served.ask("/static/a.txt"))[0] == 503
        await served.place.edge.maintenance(False)
        assert (await served.ask("/static/a.txt"))[0] == 200


async def test_without_a_server_of_files_it_says_so() -> None:
    async with serving() as served:
        assert await served.server.look(None) == observed.Static()
        assert (await served.server.look(1)).state == "starting"
        assert (await served.ask("/static/a.txt"))[0] == 503
