"""What is looked at before a change is begun, so that a refusal leaves nothing half done."""

from __future__ import annotations

from pathlib import Path

from gapless import errors
from gapless.edge import config as edge_config
from gapless.edge import files as edge_files
from gapless.engine import listeners
from gapless.engine.site import Site
from gapless.model.stack import Stack
from gapless.observed import Edge, Observed


def address_free(site: Site, edge: Edge, stack: Stack, current: Stack | None) -> None:
    """Whether the edge can listen where the stack says. Raises EnvironmentFault, naming who has it.

    ``current``: the stack in force, whose edge has its address already; None at first.
    """
    runs = edge.state in ("running", "starting")
    if runs and (current is None or current.edge.listen == stack.edge.listen):
        return
    try:
        edge_files.check_ports(
            edge_config.Config(
                stack=site.paths.stack,
                listen=stack.edge.listen,
                rules=(),
                backends=(),
                run_dir=str(site.paths.run),
                maxconn=0,
                threads=0,
            )
        )
    except errors.EnvironmentFault as fault:
        holder = listeners.holder(int(stack.edge.listen.rpartition(":")[2]))
        if not holder:
            raise
        raise errors.EnvironmentFault(f"{fault.message} by {holder}", hint=fault.hint) from None


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
