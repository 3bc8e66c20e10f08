"""A small client for machines without valkey-cli: ``python -m gapless.data.redis_shell``.

The password comes from REDISCLI_AUTH, never from the command line.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import sys

from gapless.data import resp


def show(reply: resp.Reply, indent: str = "") -> str:
    """A reply for human eyes."""
    if reply is None:
        return "(nil)"
    if isinstance(reply, int):
        return f"(integer) {reply}"
    if isinstance(reply, list):
        rows = [f"{indent}{n}) {show(item, indent + '   ')}" for n, item in enumerate(reply, 1)]
        return "\n".join(rows).removeprefix(indent) if rows else "(empty)"
    return reply


async def converse(target: resp.Target) -> int:
    """Read commands from standard input until it ends or says ``quit``. Exit code 0 or 1."""
    prompt = f"{target.host}:{target.port}> " if sys.stdin.isatty() else ""
    connection = await resp.Connection.open(target)
    try:
        while True:
            print(prompt, end="", flush=True)  # noqa: T201
            line = await asyncio.to_thread(sys.stdin.readline)
            if not line or line.strip().lower() in ("quit", "exit"):
                return 0
            try:
                if words := shlex.split(line):
                    print(show(await connection.ask(*words)))  # noqa: T201
            except (resp.ReplyError, ValueError) as error:
                print(f"(error) {error}")  # noqa: T201
    finally:
        connection.close()


def main() -> int:
    """Exit code 0, or 1 when the server cannot be reached."""
    parser = argparse.ArgumentParser(prog="redis_shell", add_help=False)
    parser.add_argument("-h", dest="host", default="127.0.0.1")
    parser.add_argument("-s", dest="socket", help="a Unix socket, instead of both")
    parser.add_argument("-p", dest="port", type=int, default=6379)
    args = parser.parse_args()
    target = resp.Target(args.socket or args.host, args.port, os.environ.get("REDISCLI_AUTH"))
    try:
        return asyncio.run(converse(target))
    except (OSError, EOFError, resp.ReplyError, resp.Malformed) as error:
        print(f"{args.host}:{args.port}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
