"""The format of a stack's state on disk: one number in the file ``format``.

It is raised when an older gapless would misread what a newer one writes; keys that are added
and may be absent are no reason. Who cannot read a state touches nothing of it.
"""

from __future__ import annotations

from gapless.engine.paths import Paths
from gapless.errors import Damaged, EnvironmentFault

FORMAT = 1


def check(paths: Paths) -> None:
    """Raises EnvironmentFault for the state of a newer gapless, Damaged for a faulty mark."""
    place = paths.state / "format"
    try:
        found = int(place.read_text("ascii"))
    except FileNotFoundError:
        return
    except OSError as error:
        raise EnvironmentFault(f"{place}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise Damaged(
            f"{place}: is not the number of a format",
            hint=f"this gapless writes {FORMAT}; write the number of the one that made the state",
        ) from None
    if found > FORMAT:
        raise EnvironmentFault(
            f"{paths.state}: a newer gapless wrote it (format {found}, this one knows {FORMAT})",
            hint="what runs goes on; use that gapless, or a newer one",
        )


def mark(paths: Paths) -> None:
    """Say in what format this gapless writes. Only the one writer may. Raises as ``check``."""
    check(paths)
    from gapless.engine import durable

    place = paths.state / "format"
    if not place.exists():
        durable.write(place, f"{FORMAT}\n")
