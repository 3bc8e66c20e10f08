"""What kind of value each key of a Compose file has: a value, a list or a mapping."""

from __future__ import annotations

from gapless.compose import tree
from gapless.compose.tree import Document, Map, Node, Scalar, Seq

_WORDS = {"s": "a value", "l": "a list", "m": "a mapping"}
_KEYS = {
    "s": "attach cgroup cgroup_parent container_name cpu_count cpu_percent cpu_period cpu_quota "
    "cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset domainname hostname image init ipc "
    "isolation mac_address mem_limit mem_reservation mem_swappiness memswap_limit network_mode "
    "oom_kill_disable oom_score_adj pid pids_limit platform privileged pull_policy "
    "pull_refresh_after read_only restart runtime scale shm_size stdin_open stop_grace_period "
    "stop_signal tty use_api_socket user userns_mode uts working_dir build.context "
    "build.dockerfile build.target deploy.mode deploy.endpoint_mode deploy.replicas "
    "healthcheck.disable healthcheck.interval healthcheck.retries healthcheck.start_interval "
    "healthcheck.start_period healthcheck.timeout logging.driver extends.service extends.file "
    "command[] entrypoint[] healthcheck.test[] environment[] environment.* labels[] labels.* "
    "build.args[] build.args.* profiles[] expose[] links[] depends_on[] networks[] cap_add[] "
    "cap_drop[] tmpfs[] ports[].target ports[].published ports[].host_ip ports[].protocol "
    "volumes[].type volumes[].source volumes[].target volumes[].read_only secrets[].source "
    "secrets[].target configs[].source configs[].target env_file[].path "
    "deploy.resources.limits.cpus deploy.resources.limits.memory deploy.resources.limits.pids "
    "deploy.resources.reservations.cpus deploy.resources.reservations.memory",
    "l": "cap_add cap_drop configs device_cgroup_rules devices dns_opt expose external_links "
    "group_add links ports post_start pre_stop profiles secrets security_opt volumes volumes_from",
    "m": "blkio_config credential_spec deploy deploy.placement deploy.resources "
    "deploy.resources.limits deploy.resources.reservations deploy.restart_policy "
    "deploy.rollback_config deploy.update_config depends_on.* develop healthcheck logging "
    "logging.options networks.* provider storage_opt ulimits",
    "sl": "command dns dns_search entrypoint env_file gpus healthcheck.test label_file tmpfs",
    "lm": "annotations build.args depends_on deploy.labels environment extra_hosts labels models "
    "networks sysctls",
    "sm": "build configs[] env_file[] extends ports[] secrets[] volumes[]",
}
SERVICE = {key: kinds for kinds, keys in _KEYS.items() for key in keys.split()}
"""Key of a service to its kinds; ``[]`` is an item of a list, ``*`` any key."""
_ROOT = {
    "name": "s", "version": "s", "include": "slm", "services": "m", "services.*": "m",
    **{key: "m" for kind in ("configs", "models", "networks", "secrets", "volumes")
       for key in (kind, f"{kind}.*")},
}  # fmt: skip
_ALL = _ROOT | {f"services.*.{key}": kinds for key, kinds in SERVICE.items()}


def check(document: Document) -> None:
    """Raises InvalidStack with the line of the first value that is of another kind."""
    todo: list[tuple[Node, str, str]] = [
        (node, key, key) for root in document.roots for key, node in root.items.items()
    ]
    while todo:
        node, place, shown = todo.pop()
        kinds = _ALL.get(place)
        if kinds is None or node.tag == "reset" or (isinstance(node, Scalar) and _null(node)):
            continue
        if (kind := _kind(node)) not in kinds:
            leaf = tree.line_of(node)
            wanted = " or ".join(_WORDS[one] for one in kinds)
            said = f"{shown}: must be {wanted}, got {_WORDS[kind]}"
            line = leaf.line if leaf else None
            raise tree.fault(document.file, document.text, line, said)
        below = [] if isinstance(node, Scalar) else _below(node, place, shown)
        todo += reversed(below)


def _below(node: Map | Seq, place: str, shown: str) -> list[tuple[Node, str, str]]:
    if isinstance(node, Seq):
        return [(one, f"{place}[]", f"{shown}[{n}]") for n, one in enumerate(node.items)]
    return [
        (one, own if (own := f"{place}.{key}") in _ALL else f"{place}.*", f"{shown}.{key}")
        for key, one in node.items.items()
    ]


def _kind(node: Node) -> str:
    return "s" if isinstance(node, Scalar) else "l" if isinstance(node, Seq) else "m"


def _null(node: Scalar) -> bool:
    return node.kind == "null"
