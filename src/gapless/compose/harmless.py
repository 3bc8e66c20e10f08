"""Keys without a word in the stack file whose value asks for nothing that is not there anyway."""

from __future__ import annotations

from collections.abc import Iterator

from gapless.compose import fates, sizes
from gapless.compose.forms import text
from gapless.compose.ledger import Kind
from gapless.compose.tree import Map, Node, Scalar, Seq

_BEGINNING = frozenset({"CHOWN", "DAC_OVERRIDE", "FOWNER", "NET_BIND_SERVICE", "SETGID", "SETUID"})
"""Capabilities of a container whose image begins as root."""
_SHARED = 256 * 1024**2
"""Bytes of shared memory of each container."""
_OFF = frozenset({"false", "no", "off", ""})
_USUAL = {"ipc": "private", "cgroup": "private", "pid": "", "uts": "", "userns_mode": ""}
_SWITCHES = frozenset({"privileged", "read_only", "oom_kill_disable", "use_api_socket"})


def of(key: str, node: Node) -> Iterator[tuple[Node, Kind, str]]:
    """What becomes of a key without a word here: by its value, where that asks for nothing else."""
    if isinstance(node, Map | Seq) and not node.items:
        yield node, "kept", "says nothing"
        return
    parts = [("", one) for one in node.items] if isinstance(node, Seq) else []
    if key == "ulimits" and isinstance(node, Map):
        parts = list(node.items.items())
    for name, one in parts or [("", node)]:
        value = text(one).strip()
        said = _harmless(key, value) if isinstance(one, Scalar) else ""
        fate = _near(key, name, value) or fates.SERVICE[key]
        yield (one, "kept", said) if said else (one, *fate)


def _near(key: str, name: str, value: str) -> tuple[Kind, str] | None:
    """What becomes of a value that has something near it here, or something to do instead."""
    if key == "ulimits" and name == "nofile":
        return "emulated", "as many open files as the engine grants: default-ulimits of daemon.json"
    if key == "dns_search" and value in ("", "."):
        return "emulated", "names of the stack come first, then those that the machine looks for"
    return None


def _harmless(key: str, value: str) -> str:
    """Why nothing is lost; "" where something is."""
    if key in _SWITCHES and value.lower() in _OFF:
        return "says nothing"
    if key in _USUAL and value == _USUAL[key]:
        return "as it is anyway"
    if key == "cap_add" and value.upper().removeprefix("CAP_") in _BEGINNING:
        return "an image that begins as root has it"
    if key == "security_opt" and value.replace("=", ":") in (
        "no-new-privileges",
        "no-new-privileges:true",
    ):
        return "so it is for every container"
    if key == "shm_size" and (sizes.size(value) or _SHARED + 1) <= _SHARED:
        return f"every container has {_SHARED // 1024**2} MB"
    return ""
