"""The engine on a Docker daemon: its blocking calls, run in bounded sets of threads."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec, TypeVar
from weakref import WeakValueDictionary

from rie.engine.base import LOCAL, Progress, SandboxSpec
from rie.engine.docker import holdings
from rie.engine.docker.client import Client, ImageFacts
from rie.engine.docker.holdings import Holdings
from rie.engine.docker.sandbox import DockerSandbox
from rie.engine.docker.watch import Watch
from rie.engine.instance import Instance, sandboxes_in, sweep
from rie.engine.passages import Passage, at_the_gateway, url_inside
from rie.engine.roster import Roster
from rie.engine.settings import EngineSettings
from rie.errors import EngineUnavailable, ImageInvalid, ImageNotFound, SettingsError
from rie.limits import storage
from rie.model.image import Image
from rie.rootfs import credentials, manifest, registry
from rie.rootfs.reference import parse as parse_reference

CALLS = 8  # at a time, besides starts; they mostly wait for the daemon
PULLS = 4
RESOLVES = 4  # apart from the others: a registry that does not answer holds one for half a minute
MAX_UNPACKED = 10 * 1024**3  # bytes; the service's limit
OWNER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")

P = ParamSpec("P")
T = TypeVar("T")


class DockerEngine:
    """Implements `rie.engine.base.Engine`. Asks the daemon nothing until it is used."""

    name = "docker"

    def __init__(self, settings: EngineSettings) -> None:
        """Raises SettingsError for what can't be right on any machine."""
        if not OWNER.fullmatch(settings.owner):
            raise SettingsError(f"cannot use owner {settings.owner!r}: it must be letters, digits and _ . - only")
        self.client = Client(settings.docker_host)
        self.watch = Watch(self._running)
        self._settings = settings
        self._starts = ThreadPoolExecutor(settings.parallel_starts, "docker-start")
        self._calls = ThreadPoolExecutor(CALLS, "docker-call")
        self._pulls = ThreadPoolExecutor(PULLS, "docker-pull")
        self._resolves = ThreadPoolExecutor(RESOLVES, "resolve")
        self._instance: Instance | None = None
        self._roster: Roster[DockerSandbox] = Roster(settings.parallel_starts)
        self._preparing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._images: dict[str, ImageFacts] = {}
        self._passages: tuple[Passage, ...] = ()

    async def check(self) -> str:
        """See `Engine.check`; the line ends with what is not as good as it could be on this machine."""
        line = await self.call(self.client.describe)
        if self._settings.host_urls:
            gateway = await self.call(self.client.gateway, self._settings.network)
            self._passages = at_the_gateway(self._settings.host_urls, gateway) if gateway else ()
        if not (self._settings.bundle / "bootstrap").exists():
            raise EngineUnavailable(f"cannot run sandboxes: there is no bundle at {self._settings.bundle}")
        why = storage.unavailable()
        return f"{line}, /tmp in the function's memory ({why})" if why else line

    def url_inside(self, url: str) -> str:
        """See `Engine.url_inside`; an endpoint must listen at the gateway, or on every address, to be reached."""
        return url_inside(url, self._passages)

    async def resolve(self, reference: str, architecture: str) -> Image:
        """See `Engine.resolve`."""
        if reference.startswith(LOCAL):
            image = await self.call(self.client.resolve, reference.removeprefix(LOCAL), architecture)
            if image is None:
                raise ImageNotFound(reference, "Docker does not have it")
            return image
        insecure = self._settings.insecure_registries
        return await self._in(self._resolves, lambda: registry.resolve(reference, architecture, insecure=insecure))

    async def prepare(self, image: Image, on_progress: Progress | None = None) -> None:
        """See `Engine.prepare`; the daemon verifies the digests of manifest and layers as it pulls."""
        lock = self._preparing.setdefault(image.reference, asyncio.Lock())
        async with lock:
            facts = await self.call(self._find, image)
            if facts is None and not image.reference.startswith(LOCAL):
                await self._in(self._pulls, lambda: self._pull(image, on_progress))
                facts = await self.call(self._find, image)
            if facts is None:
                raise ImageNotFound(image.reference, "Docker does not have it")
            _check(image, facts)
            self._images[image.reference] = facts

    async def collect(self, keep: Iterable[Image], spare_bytes: int, recent_s: float) -> int:
        """See `Engine.collect`: Docker's images are those of whoever runs it, also by other ways than this one."""
        return 0

    async def start(self, spec: SandboxSpec) -> DockerSandbox:
        """See `Engine.start`; at most `parallel_starts` at a time, the others wait."""
        return await self._roster.start(spec.sandbox_id, lambda: self._start(spec))

    async def reconcile(self) -> int:
        """See `Engine.reconcile`; a manager is alive as long as the lock of its directory is held."""
        return await self.call(self._reconcile, self._own_instance())

    async def close(self) -> None:
        """See `Engine.close`; what the daemon does not let us remove is left for `reconcile`."""
        await self._roster.close()
        self.watch.close()
        for pool in (self._starts, self._calls, self._pulls, self._resolves):
            pool.shutdown(wait=False, cancel_futures=True)
        self.client.close()
        if self._instance is not None:
            self._instance.close()

    async def call(self, function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Run something that blocks in one of the threads for short calls."""
        return await self._in(self._calls, lambda: function(*args, **options))

    def forget(self, sandbox_id: str) -> None:
        """A sandbox has been destroyed, or left to `reconcile`."""
        self._roster.forget(sandbox_id)

    async def _in(self, pool: ThreadPoolExecutor, function: Callable[[], T]) -> T:
        if self._roster.is_closed and pool is not self._calls:
            raise EngineUnavailable("cannot use the engine: it is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, function)
        except RuntimeError as error:  # the pool's, once it is shut down
            raise EngineUnavailable(f"cannot use the engine: {error}") from error

    def _own_instance(self) -> Instance:
        if self._instance is None:
            # A directory per owner: reconciling one owner's must not touch another's.
            self._instance = Instance(self._settings.state_dir / self._settings.owner)
        return self._instance

    def _acquire(self, spec: SandboxSpec, instance: Instance) -> Holdings:
        facts = self._images.get(spec.image.reference) or self._find(spec.image)
        if facts is None:
            raise ImageNotFound(spec.image.reference, "it is not on this machine")
        self._images[spec.image.reference] = facts
        if spec.image.reference.startswith(LOCAL):
            spec = replace(spec, image=replace(spec.image, reference=facts.image_id))
        return holdings.acquire(spec, self._settings, instance, self.client, facts.volumes)

    async def _start(self, spec: SandboxSpec) -> DockerSandbox:
        instance = self._own_instance()
        loop = asyncio.get_running_loop()
        return DockerSandbox(await loop.run_in_executor(self._starts, self._acquire, spec, instance), self)

    def _find(self, image: Image) -> ImageFacts | None:
        """What Docker knows of an image. A local one that was built anew since is the new one: the old may be gone."""
        name, _, image_id = image.reference.removeprefix(LOCAL).partition("@")
        if not image.reference.startswith(LOCAL):
            return self.client.image(image.reference)
        return self.client.image(image_id) or self.client.image(name)

    def _pull(self, image: Image, on_progress: Progress | None) -> None:
        def report(line: str) -> None:
            if self._roster.is_closed:  # the one place where a pull can be stopped
                raise EngineUnavailable(f"cannot pull image {image.reference}: the engine is closed")
            if on_progress is not None:
                on_progress(line)

        known = credentials.find(parse_reference(image.reference).host, os.environ)
        self.client.pull(image.reference, known, report)

    def _reconcile(self, instance: Instance) -> int:
        """Containers first, because what they use can be unmounted only afterwards."""
        found = set()
        for facts in self.client.containers(self._settings.owner):
            is_left = not self._is_held(instance, Path(facts.instance), facts.sandbox_id)
            if is_left and self.client.remove(facts.container_id):
                found.add((facts.instance, facts.sandbox_id))
        for volume in self.client.unused_volumes(self._settings.owner):
            self.client.remove_volume(volume)
        for directory in (*instance.others(), instance.directory):
            for path in sandboxes_in(directory):
                if not self._is_held(instance, directory, path.name):
                    found.add((str(directory), path.name))
                    sweep(path)
            if not instance.is_live(directory):
                sweep(directory)
        return len(found)

    def _is_held(self, instance: Instance, directory: Path, sandbox_id: str) -> bool:
        """Asked for each one at the last moment: sandboxes are started and destroyed meanwhile."""
        return sandbox_id in self._roster.held if directory == instance.directory else instance.is_live(directory)

    async def _running(self) -> frozenset[str]:
        listed = await self.call(self.client.containers, self._settings.owner, only_running=True)
        return frozenset(facts.container_id for facts in listed)


def _check(image: Image, facts: ImageFacts) -> None:
    wanted = f"{manifest.OS}/{manifest.PLATFORMS.get(image.architecture)}"
    if facts.platform != wanted:
        raise ImageInvalid(image.reference, f"it is for {facts.platform}, not {wanted}")
    if facts.size > MAX_UNPACKED:
        raise ImageInvalid(image.reference, f"it has {facts.size} bytes unpacked, more than {MAX_UNPACKED}")
