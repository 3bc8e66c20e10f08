"""``gapless import``: Compose files as a stack file, and what became of each of their keys."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gapless import errors
from gapless.cli import out, targets
from gapless.cli.session import FILE, Session

if TYPE_CHECKING:
    from gapless.compose.incoming import Imported
    from gapless.compose.ledger import Line
    from gapless.model.stack import Stack

KINDS = ("kept", "emulated", "refused")


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option(
    "--profile", "profiles", multiple=True, metavar="NAME", help="Also services of this profile."
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="What is written; absent: gapless.toml beside the first file. -: printed.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.option("--allow-loss", is_flag=True, help="Write it although something is refused.")
@click.pass_obj
def import_(session: Session, /, files: tuple[str, ...], **given: Any) -> int:
    """A gapless.toml of Compose files (later ones over earlier ones), and what became of each key.

    The report says what is kept, emulated and refused, with the line it stood on. Values of
    secrets are not written: it says where they stand. Exit: 0 done, 4 something was refused and
    nothing was written.
    """
    from gapless import stackfile

    folder = Path(files[0]).absolute().parent
    made = _made(files, folder, given["profiles"])
    lines = made.lines
    refused = [line for line in lines if line.kind == "refused"]
    written = bool(made.text) and (given["allow_loss"] or not refused)
    target = _target(folder, given["output"])
    if written:
        text = _text(made.text, folder, target)
        loaded = stackfile.parse(text, file=target.name if target else FILE)
        made = replace(made, warned=(*made.warned, *_later(loaded.stack)))
        if target is not None:
            _write({target: text} | _beside(made, folder), force=given["force"])
    else:
        text = ""
    if session.json:
        out.as_json(_document(target, text, made, lines))
        return 0 if written else errors.Refused.exit_code
    _print(made, lines, target, text)
    if not made.text:
        raise errors.Refused(
            "import: no service of these files has an image or a build; nothing was written",
            hint="a file that is laid over another one is named after it",
        )
    if not written:
        raise errors.Refused(
            f"import: {len(refused)} of {len(lines)} values are refused; nothing was written",
            hint="--allow-loss writes the file all the same",
        )
    return 0


def _later(stack: Stack) -> Iterator[str]:
    """What gapless up will not do with it in this version: told now, not when somebody tries."""
    from gapless.stackfile import packed

    found: dict[str, list[str]] = {}
    for path, fault in packed.problems(stack):
        said = " ".join((*map(str, path[2:]), fault))
        found.setdefault(".".join(map(str, path[:2])), []).append(said)
    for owner, faults in found.items():
        more = f" (and {len(faults) - 1} more: gapless check --target docker)"
        yield f"not yet: gapless up refuses [{owner}]: {faults[0]}{more if faults[1:] else ''}"


def _made(files: Sequence[str], folder: Path, profiles: Iterable[str]) -> Imported:
    """What the files come to. Raises EnvironmentFault without the library, and their faults."""
    try:
        from gapless.compose import incoming, project
    except ModuleNotFoundError as error:
        raise targets.lacks(error) from None
    names = [os.path.relpath(Path(name).absolute(), folder) for name in files]

    def read(name: str) -> str | None:
        if name.endswith("/"):
            return "" if (folder / name).is_dir() else None
        if "*" not in Path(name).name:
            return _read(folder / name, name)
        base = Path(name).parent
        found = sorted(one.name for one in (folder / base).glob(Path(name).name))
        texts = [_read(folder / base / one, str(base / one)) for one in found]
        return "\n".join(text for text in texts if text is not None) if found else None

    whole = project.load(names, read, dict(os.environ), frozenset(profiles))
    return incoming.convert(whole, read, folder.name)


def _read(path: Path, name: str) -> str | None:
    from gapless.compose import tree
    from gapless.stackfile import source

    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None  # devices and pipes may never end
        with path.open("rb") as handle:
            data = handle.read(source.LIMIT + 1)
        if len(data) > source.LIMIT:
            raise errors.InvalidStack((errors.Problem(tree.TOO_LARGE, name, 1),))
        return source.decode(data, file=name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise errors.UsageError(f"{name}: cannot be read: {reason}") from None


def _target(folder: Path, output: str | None) -> Path | None:
    """The file to write; None: it is printed."""
    if output == "-":
        return None
    target = folder / FILE if output is None else Path(output).absolute()
    return target / FILE if target.is_dir() else target


def _text(text: str, folder: Path, target: Path | None) -> str:
    """Paths are relative to the source folder: it is named where the file lies elsewhere."""
    from gapless.stackfile import write

    if target is None or target.parent == folder:
        return text
    source = write.value(os.path.relpath(folder, target.parent))
    return text.replace("\ngapless = 1\n", f"\ngapless = 1\nsource = {source}\n", 1)


def _beside(made: Imported, folder: Path) -> dict[Path, str]:
    """What has to lie in the source folder and does not yet."""
    wanted = {folder / name: text for name, text in made.files.items()}
    return {file: text for file, text in wanted.items() if not _holds(file, text)}


def _holds(file: Path, text: str) -> bool:
    return file.is_file() and file.read_bytes() == text.encode()


def _write(files: Mapping[Path, str], *, force: bool) -> None:
    """All of them, or none where one is there already."""
    for file in files:
        if not force and file.exists():
            raise errors.Refused(f"{file}: exists already", hint="--force replaces it")
    for file, text in files.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise errors.EnvironmentFault(f"{file}: cannot be written: {error.strerror}") from None


def _document(
    target: Path | None, text: str, made: Imported, lines: Sequence[Line]
) -> dict[str, Any]:
    rows = {
        kind: [
            {"file": line.file, "line": line.line, "key": line.key, "text": line.text}
            for line in lines
            if line.kind == kind
        ]
        for kind in KINDS
    }
    return {
        "file": str(target) if target is not None and text else None,
        "text": text,
        "files": dict(made.files),
        **rows,
        "secrets": [{"name": s.name, "place": s.place} for s in made.secrets],
        "warnings": list(made.warned),
    }


def _print(made: Imported, lines: Sequence[Line], target: Path | None, text: str) -> None:
    """The report goes where it does not stand in the way of the file."""
    say = out.progress if target is None else out.data
    places = [f"{line.file}:{line.line}" for line in lines]
    wide = max(map(len, places), default=0), max((len(line.key) for line in lines), default=0)
    for kind in KINDS:
        for line, place in zip(lines, places, strict=True):
            if line.kind == kind:
                said = f"{kind.ljust(8)}  {place.ljust(wide[0])}  {line.key.ljust(wide[1])}"
                say(out.clean(f"{said}  {line.text}".rstrip()))
    for warning in made.warned:
        out.progress(out.clean(f"warning: {warning}"))
    for secret in made.secrets:
        where = f"its value is at {secret.place}" if secret.place else "nobody has its value"
        out.progress(out.clean(f"secret {secret.name}: {where}; gapless secret set {secret.name}"))
    if not text:
        return
    if target is None:
        out.data(text.rstrip("\n"))
        if made.files:
            out.progress(f"hint: {', '.join(made.files)} has to be there: -o FILE writes it too")
    else:
        out.data(f"wrote {', '.join((target.name, *made.files))}")
        out.progress("hint: read it, then gapless check --target docker")


COMMANDS = (import_,)
