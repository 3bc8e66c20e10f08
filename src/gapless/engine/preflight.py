"""What is looked at before a change is begun, so that a refusal leaves nothing half done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gapless import errors
from gapless.core import sizing
from gapless.edge import files as edge_files
from gapless.engine import clock, listeners, machine, situation
from gapless.engine.certificates import keeper, x509
from gapless.engine.site import Site
from gapless.model.data import Data
from gapless.model.desired import Desired, Rollout
from gapless.model.service import Job, Service
from gapless.model.stack import Stack
from gapless.model.tls import GivenCertificate
from gapless.observed import Edge, Observed


def running(desired: Desired, what: str) -> None:
    """Whether there is anything that can be changed. Raises Refused."""
    if not desired.running or not desired.vector:
        raise errors.Refused(f"{what}: the stack is not up", hint="gapless up -d")


def address_free(site: Site, edge: Edge, stack: Stack, current: Stack | None) -> None:
    """Whether the edge can listen where the stack says. Raises EnvironmentFault, naming who has it.

    ``current``: the stack in force, whose edge has its address already; None at first.
    """
    if not any(service.http for service in stack.services.values()):
        return  # no edge is started
    runs = edge.state in ("running", "starting")
    before = current is not None and current.edge.shared
    claim = situation.claim_of(site, stack)
    if claim is not None:
        site.front.claims.refuse(claim)
    for address in _listens(stack):
        kept = runs and not before and (current is None or address in _listens(current))
        if claim is not None:
            free = site.front.listens(address) or kept  # the edge would make room for it
        else:
            free = kept or (before and site.front.ours_alone(address))
        if not free:
            _port_free(address, stack.edge.binary)


def _listens(stack: Stack) -> tuple[str, ...]:
    """Where a stack's edge listens for the public."""
    more = () if stack.tls is None else (stack.edge.tls_listen,)
    return (stack.edge.listen, *more)


def _port_free(address: str, program: str | None) -> None:
    try:
        edge_files.check_port(address, program)
    except errors.EnvironmentFault as fault:
        holder = listeners.holder(int(address.rpartition(":")[2]))
        if not holder:
            raise
        hint = fault.hint
        if " of the stack " in holder:
            hint = "with [edge] shared = true in every stack they share it, told apart by host name"
        raise errors.EnvironmentFault(f"{fault.message} by {holder}", hint=hint) from None


def mounted(folder: Path, stack: Stack) -> None:
    """Whether what images are given of the machine and the source folder is there: an engine says
    so only once all is under way. ``folder``: that of the file. Raises UsageError.
    """
    owners: list[tuple[str, str, Service | Job]] = [
        *(("service", *one) for one in stack.services.items()),
        *(("job", *one) for one in stack.jobs.items()),
    ]
    for kind, name, table in owners:
        for place, volume in table.volumes.items():
            if volume.folder and not (folder / stack.source / volume.folder).exists():
                raise errors.UsageError(
                    f"[{kind}.{name}] volumes.{place}: {volume.source} is not there",
                    hint=f"mkdir -p {volume.source}, or say a files store where it keeps data",
                )


def certificates(folder: Path, stack: Stack) -> None:
    """Whether the stack's certificates can be had: libraries, given files.

    Raises EnvironmentFault, UsageError.
    """
    if stack.tls is None:
        return
    x509.needed("cryptography")
    if stack.tls == "auto":
        x509.needed("acme")
    if isinstance(stack.tls, GivenCertificate):
        keeper.read_given(folder, stack.tls, clock.wall())


def reachable(observed: Observed, services: tuple[str, ...]) -> None:
    """Whether the sockets of what was ready still exist. Raises WorkFailed with what to do.

    A program goes on listening when its socket's entry is removed, and nobody gets to it any more.
    """
    for found in observed.replicas:
        place = found.address.socket if found.address else None
        served = found.alive and found.ever_ready and found.signalled_at is None
        if place and served and found.id.service in services and not Path(place).exists():
            raise errors.WorkFailed(
                f"{found.id}: its socket {place} is gone, though it runs: the run directory"
                " was cleared",
                hint="gapless restart replaces the replicas; keep cleaners off that directory",
            )


def fits(stack: Stack, scale: Mapping[str, int] | None = None) -> None:
    """Whether the reservations fit the machine. Raises Refused with the sums."""
    fault = sizing.misfit(sizing.totals(stack, machine.now(), scale), machine.now())
    if fault:
        raise errors.Refused(
            f"reservations exceed the machine: {fault}",
            hint="lower reserve or replicas in gapless.toml",
        )


def known(stack: Stack, services: tuple[str, ...]) -> None:
    """Whether the stack has these services. Raises UsageError."""
    for name in services:
        if name not in stack.services:
            raise errors.UsageError(
                f'no service is named "{name}" (have: {", ".join(stack.services)})'
            )


def kept(site: Site, number: int) -> int:
    """The number, when that release is kept. Raises UsageError, naming those that are."""
    known = sorted(release.number for release in site.releases.list())
    if number not in known:
        listed = ", ".join(f"r{n}" for n in known)
        raise errors.UsageError(f"rollback: r{number} is not kept (have: {listed})")
    return number


def reversible(site: Site, desired: Desired, rollout: Rollout, yes: bool) -> None:
    """Whether a rollback passes no job that cannot be undone. Raises Refused; ``yes`` allows it."""
    target = rollout.stack
    current = desired.stack or target
    barred = [
        f"{name} of r{release.number}"
        for release in site.releases.list()
        if target < release.number <= current
        for name, job in site.stack(release.number).jobs.items()
        if job.when == "release" and not job.reversible
    ]
    if barred and not yes:
        raise errors.Refused(
            f"rollback to r{target} passes release jobs that are not reversible: "
            f"{', '.join(barred)}",
            hint=f"gapless rollback {target} -y",
            result={"ask": f"Roll back to r{target} although {', '.join(barred)} stays done?"},
        )


def data_unchanged(old: Mapping[str, Data], stack: Stack) -> None:
    """A deploy never alters data: another type or version under the same name is refused."""
    for name, table in stack.data.items():
        before = old.get(name)
        if before is None:
            continue
        if _kind(before) != _kind(table):
            raise errors.Refused(
                f"{name}: its type, version or kind changed, and a deploy never alters data",
                hint=f"give the new store another name than {name}",
            )


def edge_stays(old: Stack, new: Stack) -> None:
    """Between the machine and a container the edge cannot pass while it runs. Raises Refused."""
    if edge_moves(old, new):
        raise errors.Refused(
            "edge: between the machine and a container it cannot pass while it runs",
            hint="gapless down, then gapless up -d",
        )


def edge_moves(old: Stack, new: Stack) -> bool:
    return (old.edge.image is None) != (new.edge.image is None)


def _kind(table: Data) -> tuple[str, int | None, bool, bool]:
    return table.type, table.version, table.runs, table.contained


def dependencies_up(desired: Desired, observed: Observed, current: Stack) -> None:
    """Whether what the stack in force depends on is there. Raises Refused with its name.

    A store that does not answer; or, where every replica of a service is alive, was ready and is
    not any more, something that they share.
    """
    for name in current.data:
        node = observed.data.get(name)
        if node is not None and node.state in ("starting", "stopped", "failed"):
            raise errors.Refused(
                f"{name} is not there ({node.reason or node.state}), and what uses it would not"
                " get ready",
                hint="gapless ps shows when it is back; gapless deploy --force does not ask",
            )
    for name, service in current.services.items():
        alive = [
            r
            for r in observed.replicas
            if r.id.service == name
            and r.alive
            and r.signalled_at is None
            and r.generation == desired.vector.get(name)
        ]
        if service.http and alive and all(r.ever_ready and not r.ready for r in alive):
            raise errors.Refused(
                f"{name}: none of its {len(alive)} replicas is ready ({alive[0].probe})",
                hint="mend what they depend on, or gapless deploy --force",
            )
