"""Totals of reservations against the machine. Cores as float, memory in bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gapless.model.stack import Stack


@dataclass(frozen=True, slots=True)
class Machine:
    """What the machine has, and how much memory is free to use right now."""

    cpus: int
    memory: int
    available: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all replicas at their floor; services without a reservation count nothing."""

    cpu: float
    memory: int
    replicas: int


def totals(stack: Stack, machine: Machine, scale: Mapping[str, int] | None = None) -> Totals:
    """The sum of the reservations at the floor (or at the counts set by hand)."""
    cpu, memory, replicas = 0.0, 0, 0
    for name, service in stack.services.items():
        floor = machine.cpus if service.replicas == "cpus" else service.replicas
        count = (scale or {}).get(name, floor)
        cpu += count * (service.reserve.cpu or 0.0)
        memory += count * (service.reserve.memory or 0)
        replicas += count
    return Totals(cpu, memory, replicas)


def ceiling(stack: Stack, machine: Machine) -> Totals:
    """The sum of the reservations where every service has all replicas that its load may ask."""
    most = {name: service.bounds(machine.cpus)[1] for name, service in stack.services.items()}
    return totals(stack, machine, most)


def misfit(wanted: Totals, machine: Machine) -> str:
    """Why the reservations do not fit, with the sums; empty when they do."""
    faults = []
    if wanted.cpu > machine.cpus:
        faults.append(f"cpu {wanted.cpu:g} of {machine.cpus} cores")
    if wanted.memory > machine.memory:
        faults.append(f"memory {size(wanted.memory)} of {size(machine.memory)}")
    return " and ".join(faults)


def room_to_park(stack: Stack, machine: Machine, counts: Mapping[str, int] | None = None) -> bool:
    """Whether old and new replicas fit side by side, by reservation and by what is free now.

    ``counts``: of the services that do not run at their floor.
    """
    wanted = totals(stack, machine, counts)
    return 2 * wanted.memory <= machine.memory and wanted.memory <= machine.available


def size(amount: int) -> str:
    """``1.5G``, ``512M``: for people."""
    for unit, factor in (("G", 1024**3), ("M", 1024**2), ("K", 1024)):
        if amount >= factor:
            return f"{amount / factor:.3g}{unit}"
    return str(amount)
