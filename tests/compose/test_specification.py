"""Every key that the Compose Specification knows is known here, empty ones too."""

from __future__ import annotations

import pytest

from gapless.compose import shapes
from gapless.compose.ledger import UNKNOWN
from gapless.errors import InvalidStack

from .made import imported

WHOLE = """\
name: full
include: []
services:
  web:
    image: a
    annotations: [a=b]
    attach: false
    blkio_config:
      weight: 300
      weight_device: [{path: /dev/sda, weight: 400}]
      device_read_bps: [{path: /dev/sdb, rate: '12mb'}]
    build:
      context: .
      dockerfile_inline: |
        FROM x
      entitlements: [network.host]
      args: {A: b}
      ssh: [default]
      labels: [a=b]
      cache_from: [x]
      cache_to: [y]
      no_cache: true
      additional_contexts: {a: b}
      network: host
      provenance: true
      sbom: true
      pull: true
      target: x
      shm_size: 1m
      extra_hosts: ["a:1.2.3.4"]
      isolation: x
      privileged: true
      secrets: [s]
      tags: [t]
      ulimits: {nproc: 1}
      platforms: [linux/amd64]
    credential_spec: {config: c, file: f, registry: r}
    develop: {watch: [{path: ., action: sync, target: /x, ignore: [a], include: [b],
        initial_sync: true, exec: {command: x}}]}
    deploy:
      mode: replicated
      endpoint_mode: vip
      replicas: 1
      labels: [a=b]
      rollback_config: {parallelism: 1, delay: 1s, failure_action: pause, monitor: 1s,
          max_failure_ratio: 0.1, order: stop-first}
      update_config: {parallelism: 1, delay: 1s, failure_action: pause, monitor: 1s,
          max_failure_ratio: 0.1, order: stop-first}
      resources:
        limits: {cpus: 1, memory: 1g, pids: 3}
        reservations:
          cpus: 0.5
          memory: 1m
          generic_resources: [{discrete_resource_spec: {kind: a, value: 1}}]
          devices: [{capabilities: [gpu], count: 1, device_ids: [a], driver: x, options: {a: b}}]
      restart_policy: {condition: any, delay: 1s, max_attempts: 3, window: 4s}
      placement: {constraints: [a], preferences: [{spread: x}], max_replicas_per_node: 3}
    depends_on: {b: {condition: service_healthy, restart: true, required: false}}
    devices: [{source: a, target: b, permissions: r}]
    env_file: [{path: x.env, required: false, format: raw}]
    gpus: [{capabilities: [gpu], count: 1, options: {a: b}}]
    healthcheck: {disable: false, interval: 1s, retries: 3, test: [CMD, x], timeout: 1s,
        start_period: 1s, start_interval: 1s, x-a: b}
    logging: {driver: x, options: {a: b}}
    models: {llm: {endpoint_var: A, model_var: B}}
    networks: {n: {aliases: [q], interface_name: e, ipv4_address: 1.2.3.4, ipv6_address: "::1",
        link_local_ips: [a], gw_priority: 1, mac_address: x, driver_opts: {a: b}, priority: 3,
        x-a: b}}
    post_start: [{command: x, user: u, privileged: true, working_dir: /x, environment: [a=b]}]
    pre_stop: [{command: x}]
    provider: {type: x, options: {a: b}}
    ports: [{name: a, mode: host, host_ip: 1.2.3.4, target: 80, published: "80", protocol: tcp,
        app_protocol: http, x-a: b}]
    secrets: [{source: s, target: t, uid: "1", gid: "1", mode: 0400}]
    configs: [{source: c, target: /t, uid: "1", gid: "1", mode: 0400}]
    volumes:
      - {type: bind, source: ./a, target: /a, read_only: false, consistency: x,
          bind: {propagation: x, create_host_path: true, recursive: enabled, selinux: z}}
      - {type: volume, source: v, target: /v, volume: {labels: [a=b], nocopy: true, subpath: x}}
      - {type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 7}}
      - {type: image, source: i, target: /i, image: {subpath: x}}
      - {type: npipe, source: i, target: /p}
      - {type: cluster, source: i, target: /c}
    ulimits: {nofile: {soft: 1, hard: 2}, nproc: 3}
    x-mine: {a: [b]}
  b: {image: b}
networks:
  n: {name: x, driver: d, driver_opts: {a: b}, ipam: {driver: d, config: [{subnet: s,
      ip_range: r, gateway: g, aux_addresses: {a: b}}], options: {a: b}}, external: false,
      internal: true, enable_ipv4: true, enable_ipv6: false, attachable: true, labels: [a=b],
      x-a: b}
volumes:
  v: {name: x, driver: local, driver_opts: {type: nfs}, external: false, labels: {a: b}, x-a: b}
secrets:
  s: {name: x, file: ./f, labels: [a=b], driver: d, driver_opts: {a: b},
      template_driver: golang, x-a: b}
  s2: {external: {name: n}}
  s3: {environment: E}
configs:
  c: {name: x, file: ./f, labels: [a=b], template_driver: golang, x-a: b}
  c2: {content: hello}
  c3: {environment: E}
  c4: {external: true}
models:
  llm: {name: x, model: m, context_size: 3, runtime_flags: [a], x-a: b}
x-root: [{a: b}]
"""


def test_no_key_is_unknown() -> None:
    made = imported(WHOLE, {"f": "x", "v": "x"})
    assert [line.key for line in made.result.lines if line.text == UNKNOWN] == []


@pytest.mark.parametrize("key", [key for key in shapes.SERVICE if not set(key) & set("[].*")])
@pytest.mark.parametrize("value", ["", "[]", "{}", "!override []"])
def test_an_empty_value_says_nothing(key: str, value: str) -> None:
    try:
        made = imported(f"services:\n  a: {{image: a}}\n  b:\n    build: .\n    {key}: {value}\n")
    except InvalidStack as error:
        assert "compose.yaml:5: " in str(error)
        return
    assert made.line(f"services.b.{key}").text != UNKNOWN
