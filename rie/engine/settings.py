"""What engines are told when they are made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What an engine needs to know of this machine.

    `bundle` is the tree to mount at /opt/rie (`rie.bundle.ensure`); `state_dir` where sandboxes keep sockets and /tmp
    (made if missing, one per machine or per manager); `owner` names whose sandboxes these are, so that `reconcile`
    leaves those of others alone; `network` "bridge" or "none", or a Docker network; `insecure_registries`
    hosts ("registry:5000") to reach by plain HTTP besides this machine's own; `parallel_starts` how many sandboxes may
    be starting at a time;
    `docker_host` the engine's address, None for DOCKER_HOST or the usual socket; `images` where the daemonless engine
    unpacks images, None for beside `state_dir`; `prepared` how many sandboxes it keeps ready ahead; `host_urls`
    endpoints on this host that sandboxes may reach, and nothing else of the host (`Engine.url_inside`).
    """

    bundle: Path
    state_dir: Path
    owner: str = "rie"
    network: str = "bridge"
    insecure_registries: tuple[str, ...] = ()
    parallel_starts: int = 6
    docker_host: str | None = None
    images: Path | None = None
    prepared: int = 4
    host_urls: tuple[str, ...] = ()
