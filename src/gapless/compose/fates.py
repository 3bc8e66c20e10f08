"""Keys of a service that the stack file has no word for, and what becomes of them."""

from __future__ import annotations

from gapless.compose.ledger import Kind

_LOGS = "gapless keeps the logs, bounded in size: gapless logs"
_NETWORK = "one network for the stack; nothing but the edge is public"
_OWN = "containers are gapless's own to name and label"
_KERNEL = "asks for more of the machine than a container of a stack gets"
_LIMIT = "no limit of this kind: say limits"
_NAMES = "names are looked up on the stack's network alone"
_DEVELOP = "of development alone: gapless deploy releases what changed"

SERVICE: dict[str, tuple[Kind, str]] = {
    "annotations": ("emulated", _OWN),
    "attach": ("emulated", _LOGS),
    "blkio_config": ("refused", _LIMIT),
    "cap_add": ("refused", _KERNEL),
    "cap_drop": ("emulated", "all go but those that an image needs to become somebody"),
    "cgroup": ("refused", _KERNEL),
    "cgroup_parent": ("refused", _KERNEL),
    "cpu_count": ("refused", _LIMIT),
    "cpu_percent": ("refused", _LIMIT),
    "cpu_period": ("refused", _LIMIT),
    "cpu_quota": ("refused", _LIMIT),
    "cpu_rt_period": ("refused", _LIMIT),
    "cpu_rt_runtime": ("refused", _LIMIT),
    "cpu_shares": ("refused", _LIMIT),
    "cpuset": ("refused", _LIMIT),
    "credential_spec": ("refused", _KERNEL),
    "develop": ("emulated", _DEVELOP),
    "device_cgroup_rules": ("refused", _KERNEL),
    "devices": ("refused", _KERNEL),
    "dns": ("refused", "the engine's own resolvers are asked: dns in its daemon.json"),
    "dns_opt": ("refused", _NAMES),
    "dns_search": ("refused", "no domains are tried behind a name: say whole names"),
    "domainname": ("refused", _NAMES),
    "external_links": ("refused", "containers of others are out of reach"),
    "gpus": ("refused", "no devices in this version"),
    "group_add": ("refused", "say user"),
    "hostname": ("emulated", "a replica's name is its id; services are found by theirs"),
    "init": ("emulated", "children that nobody waits for are the runtime's to reap"),
    "ipc": ("refused", _KERNEL),
    "isolation": ("refused", _KERNEL),
    "label_file": ("emulated", _OWN),
    "log_driver": ("emulated", _LOGS),
    "log_opt": ("emulated", _LOGS),
    "logging": ("emulated", _LOGS),
    "mac_address": ("refused", _NETWORK),
    "mem_swappiness": ("refused", _LIMIT),
    "memswap_limit": ("refused", _LIMIT),
    "models": ("refused", "no models in this version: run one as a service"),
    "oom_kill_disable": ("refused", _KERNEL),
    "oom_score_adj": ("refused", _LIMIT),
    "pid": ("refused", _KERNEL),
    "pids_limit": ("refused", _LIMIT),
    "platform": ("emulated", "images are of the machine's own platform"),
    "post_start": ("refused", "no hooks: say a job"),
    "pre_stop": ("refused", "no hooks: a program hears TERM once it has no work left"),
    "privileged": ("refused", _KERNEL),
    "provider": ("refused", "no providers"),
    "pull_policy": ("emulated", "an image is pulled once for each release, and its digest kept"),
    "pull_refresh_after": ("emulated", "an image is pulled once for each release"),
    "read_only": ("refused", "no word for it yet"),
    "runtime": ("refused", "containers have the machine's own runtime"),
    "security_opt": ("refused", "no word for it yet"),
    "shm_size": ("refused", _LIMIT),
    "stdin_open": ("emulated", "no terminal: gapless exec opens one"),
    "storage_opt": ("refused", _LIMIT),
    "sysctls": ("refused", _KERNEL),
    "tmpfs": ("emulated", "files in a container are gone with it anyway"),
    "tty": ("emulated", "no terminal: gapless exec opens one"),
    "ulimits": ("refused", "no limit of this kind: default-ulimits in the engine's daemon.json"),
    "use_api_socket": ("refused", _KERNEL),
    "userns_mode": ("refused", _KERNEL),
    "uts": ("refused", _KERNEL),
}
"""Key to what is said of all below it."""

BUILD: dict[str, tuple[Kind, str]] = {
    "cache_from": ("emulated", "the engine's own cache is used"),
    "cache_to": ("emulated", "the engine's own cache is used"),
    "labels": ("emulated", _OWN),
    "no_cache": ("emulated", "what is unchanged is not built again"),
    "platforms": ("emulated", "images are of the machine's own platform"),
    "provenance": ("emulated", "images stay on this machine"),
    "pull": ("emulated", "what is unchanged is not built again"),
    "sbom": ("emulated", "images stay on this machine"),
    "tags": ("emulated", "the image is built, and named by its release"),
}
"""What is said of keys of a build; of others that the Dockerfile would have to say it."""

DEPLOY: dict[str, tuple[Kind, str]] = {
    "endpoint_mode": ("emulated", "others reach a service at the edge's listener for it"),
    "labels": ("emulated", _OWN),
    "placement": ("emulated", "there is one machine"),
    "rollback_config": ("emulated", "undoing is a flip to the old replicas, all at once"),
}
NETWORK, OWN = _NETWORK, _OWN
"""What is said of networks, and of names and labels of containers."""
