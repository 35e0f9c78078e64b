"""The daemonless engine: images unpacked here, blanks in stock, a launcher that forks them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

import psutil

from rie.engine.base import LOCAL, Progress, SandboxSpec
from rie.engine.instance import Instance, sandboxes_in, sweep
from rie.engine.oci import bridges, holdings, rootless, snapshots
from rie.engine.oci.borrowed import Borrowed
from rie.engine.oci.carrier import Carrier
from rie.engine.oci.holdings import Holdings
from rie.engine.oci.network import NONE, OUTBOUND, PASSAGES, Networks
from rie.engine.oci.sandbox import OciSandbox
from rie.engine.oci.spawner import Spawner
from rie.engine.oci.stock import Blank, Stock
from rie.engine.passages import through_the_manager, url_inside
from rie.engine.roster import Roster
from rie.engine.settings import EngineSettings
from rie.errors import EngineUnavailable, HostFault, ImageNotFound, SandboxFailed, SettingsError
from rie.limits import storage
from rie.limits.groups import Groups
from rie.model.image import Image
from rie.rootfs.collect import Spared

CALLS = 8
PULLS = 4
RESOLVES = 4  # apart from the others: a registry that does not answer holds one for half a minute
PARALLEL_STARTS = 16  # threads that make directories and wait for blanks; forks are one at a time anyway
# What making sandboxes takes, by name and number (linux/capability.h).
CAPABILITIES = {"SETPCAP": 8, "NET_ADMIN": 12, "SYS_ADMIN": 21, "MKNOD": 27}
OWNER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")

T = TypeVar("T")


class Images(Protocol):
    """What this engine asks of `rie.rootfs.images.Images`."""

    def resolve(self, reference: str, architecture: str) -> Image:
        """See `Engine.resolve`."""

    def prepare(self, image: Image, on_progress: Progress | None = None) -> None:
        """See `Engine.prepare`."""

    def layers(self, image: Image) -> tuple[Path, ...]:
        """The directories of an image's layers, the lowest first. Raises ImageNotFound."""

    def hold(self, image: Image) -> None:
        """Keep them until `release`."""

    def release(self, image: Image) -> None:
        """One user less."""

    def collect(self, keep: Iterable[str], spared: Spared) -> int:
        """Remove all but those digests, those held or mounted, and those spared; the bytes freed."""


def unavailable() -> str | None:
    """Why this engine can't run here ("not root"), or None when it can."""
    if not sys.platform.startswith("linux"):
        return "not Linux"
    if platform.machine() not in ("x86_64", "aarch64"):
        return f"no system call filter for {platform.machine()}"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "the kernel has no overlay file system (modprobe overlay)"
    if os.geteuid() != 0:
        found = rootless.find()
        return None if found.users is not None else f"not root, and {found.why}"
    lacking = [name for name, number in CAPABILITIES.items() if not _capabilities() >> number & 1]
    if lacking:
        return f"root without {', '.join(lacking)}, as in a container that is not privileged"
    try:
        groups = Groups.find("check")
    except EngineUnavailable as error:
        return str(error)
    closed = [root.parent for root in groups.roots.values() if not os.access(root.parent, os.W_OK)]
    return f"control groups can't be made below {closed[0]}" if closed else None


def _capabilities() -> int:
    """This process's effective capabilities, as bits."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))


class OciEngine:
    """Implements `rie.engine.base.Engine`. Starts nothing until it is used."""

    name = "oci"

    def __init__(self, settings: EngineSettings, images: Images | None = None) -> None:
        """Raises SettingsError for what can't be right on any machine."""
        if not OWNER.fullmatch(settings.owner):
            raise SettingsError(f"cannot use owner {settings.owner!r}: it must be letters, digits and _ . - only")
        self._settings = settings
        # Without root there are no bridges, and only user namespaces.
        self._users = rootless.find().users if os.geteuid() != 0 else None
        self._images = images or _images(settings)
        own = {each.address for all_of_one in psutil.net_if_addrs().values() for each in all_of_one}
        has_network = settings.network != NONE
        self._passages = through_the_manager(settings.host_urls, own) if has_network else ()
        self._borrowed = Borrowed(self._images, _directory(settings) / "borrowed", settings.docker_host)
        # A directory per owner: reconciling one owner's must not touch another's.
        self._state_dir = settings.state_dir / settings.owner
        place = hashlib.sha256(str(self._state_dir.absolute()).encode()).hexdigest()[:8]
        self._mark = f"{settings.owner}-{place}"  # on all that is not in that directory
        self._starts = ThreadPoolExecutor(PARALLEL_STARTS, "oci-start")
        self._calls = ThreadPoolExecutor(CALLS, "oci-call")
        self._pulls = ThreadPoolExecutor(PULLS, "oci-pull")
        self._resolves = ThreadPoolExecutor(RESOLVES, "resolve")
        self._roster: Roster[OciSandbox] = Roster(PARALLEL_STARTS)
        self._instance: Instance | None = None
        self._groups: Groups | None = None
        self._spawner: Spawner | None = None
        self._networks: Networks | None = None
        self._stock: Stock | None = None

    async def check(self) -> str:
        """See `Engine.check`; the line ends with what is not as good as it could be on this machine."""
        why = unavailable()
        if why:
            raise EngineUnavailable(f"cannot run sandboxes without a daemon: {why}; use --engine docker")
        if not (self._settings.bundle / "bootstrap").exists():
            raise EngineUnavailable(f"cannot run sandboxes: there is no bundle at {self._settings.bundle}")
        groups = Groups.find(self._mark)
        line = f"oci, without a daemon: Linux {platform.release()}, overlay, cgroup v{2 if groups.is_unified else 1}"
        if self._users is not None:
            network = self._settings.network if self._settings.network != NONE else None
            lacks = [lack.short for lack in rootless.lacks(groups, network)]
            return f"oci, without a daemon or root: Linux {platform.release()}, user namespaces; {', '.join(lacks)}"
        if no_disk := storage.unavailable():
            line += f", /tmp in the function's memory ({no_disk})"
        if self._settings.network != NONE and (no_network := bridges.unavailable()):
            line += f", no network ({no_network})"
        return line

    def url_inside(self, url: str) -> str:
        """See `Engine.url_inside`; those of `EngineSettings.host_urls` are reached through the manager."""
        return url_inside(url, self._passages)

    async def resolve(self, reference: str, architecture: str) -> Image:
        """See `Engine.resolve`."""
        source = self._borrowed if reference.startswith(LOCAL) else self._images
        return await self._in(self._resolves, lambda: source.resolve(reference, architecture))

    async def prepare(self, image: Image, on_progress: Progress | None = None) -> None:
        """See `Engine.prepare`."""
        source = self._borrowed if image.reference.startswith(LOCAL) else self._images
        await self._in(self._pulls, lambda: source.prepare(image, on_progress))

    async def collect(self, keep: Iterable[Image], spare_bytes: int, recent_s: float) -> int:
        """See `Engine.collect`."""
        kept = list(keep)
        return await self._in(self._calls, lambda: self._collect(kept, Spared(spare_bytes, recent_s)))

    async def start(self, spec: SandboxSpec) -> OciSandbox:
        """See `Engine.start`; at most 16 at a time, the others wait."""
        return await self._roster.start(spec.sandbox_id, lambda: self._start(spec))

    async def reconcile(self) -> int:
        """See `Engine.reconcile`; a manager is alive as long as the lock of its directory is held."""
        return await self._in(self._calls, lambda: self._reconcile(self._own_instance()))

    async def close(self) -> None:
        """See `Engine.close`; what can't be removed is left for `reconcile`."""
        await self._roster.close()
        if self._stock is not None:
            await self._stock.close()
        if self._spawner is not None:
            self._spawner.close()
        if self._networks is not None:
            with suppress(HostFault):
                await self._networks.close()
        for pool in (self._starts, self._calls, self._pulls, self._resolves):
            pool.shutdown(wait=False, cancel_futures=True)
        if self._instance is not None:
            if self._groups is not None:
                self._groups.close(self._instance.token)
            with suppress(OSError):
                (self._instance.directory / "stage").rmdir()
            self._instance.close()

    async def give_back(self, blank: Blank) -> None:
        """A sandbox does not need its blank any more. Raises HostFault."""
        assert self._stock is not None
        await self._stock.give_back(blank)

    def forget(self, sandbox: OciSandbox) -> None:
        """A sandbox has been destroyed, or left to `reconcile`."""
        self._images.release(sandbox.image)
        self._roster.forget(sandbox.sandbox_id)

    async def _start(self, spec: SandboxSpec) -> OciSandbox:
        stock, instance = self._ready()
        if spec.image.reference.startswith(LOCAL):
            spec = replace(spec, image=self._borrowed.own(spec.image))
        # Held before it is looked for: nobody may remove it in between.
        self._images.hold(spec.image)
        try:
            layers = self._images.layers(spec.image)
            tmp = snapshots.tmp_in(spec.snapshot) if spec.snapshot is not None else None
            blank = await stock.take(self._network(spec), spec.ephemeral_storage_mb, tmp)
            acquire = holdings.acquire
            try:
                held = await self._in(
                    self._starts, lambda: acquire(spec, layers, blank, self._settings, instance), at_close=True
                )
            except BaseException:
                await stock.give_back(blank)
                raise
        except BaseException:
            self._images.release(spec.image)
            raise
        return OciSandbox(held, self)

    async def take_snapshot(self, held: Holdings, directory: Path) -> None:
        """See `Sandbox.take_snapshot`."""
        child, group = held.blank.child, held.blank.group
        _, instance = self._ready()
        try:
            number = await asyncio.to_thread(snapshots.begin, directory, child.pid)
            await self._dump(child.pid, group.doors, directory, number)
            finish, tmp_mb = snapshots.finish, held.spec.ephemeral_storage_mb
            await asyncio.to_thread(finish, directory, child.pid, tmp_mb, instance.templates)
            address = held.blank.port.address if held.blank.port else ""
            await asyncio.to_thread(snapshots.seal, directory, number, address, self._settings.bundle)
        except BaseException as error:
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
            if isinstance(error, (OSError, ValueError, IndexError)):
                raise SandboxFailed(f"cannot take a snapshot of sandbox {held.spec.sandbox_id}: {error}") from error
            raise

    def can_start_from(self, snapshot: Path) -> bool:
        """See `Engine.can_start_from`."""
        return snapshots.is_usable(snapshot, self._settings.bundle)

    def why_no_snapshots(self) -> str | None:
        """See `Engine.why_no_snapshots`."""
        return snapshots.unavailable() if self._users is None else "without root none can be taken"

    async def _dump(self, pid: int, groups: list[str], snapshot: Path, number: int) -> None:
        criu = await asyncio.to_thread(snapshots.needed, snapshot)
        assert self._spawner is not None
        status = await self._spawner.run(snapshots.dump(criu, pid, groups, snapshot, number))
        if status != 0:
            words = await asyncio.to_thread(snapshots.last_words, snapshot)
            raise SandboxFailed(f"criu {criu.version}: {words}")

    def _network(self, spec: SandboxSpec) -> str:
        if self._users is None:
            return spec.network or self._settings.network
        if spec.network is not None:
            raise EngineUnavailable(f"cannot plug a sandbox into network {spec.network}: without root there is none")
        return PASSAGES if self._settings.network == OUTBOUND else NONE

    def _collect(self, keep: list[Image], spared: Spared) -> int:
        digests = []
        for image in keep:
            with suppress(ImageNotFound):  # it has to be taken over anew before it can start
                own = self._borrowed.own(image) if image.reference.startswith(LOCAL) else image
                digests.append(own.digest)
        return self._images.collect(digests, spared)

    async def _in(self, pool: ThreadPoolExecutor, function: Callable[[], T], *, at_close: bool = False) -> T:
        if self._roster.is_closed and not at_close:
            raise EngineUnavailable("cannot use the engine: it is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, function)
        except RuntimeError as error:  # the pool's, once it is shut down
            raise EngineUnavailable(f"cannot use the engine: {error}") from error

    def _own_instance(self) -> Instance:
        if self._instance is None:
            self._instance = Instance(self._state_dir)
        return self._instance

    def _ready(self) -> tuple[Stock, Instance]:
        """All parts, made when the first sandbox is started."""
        instance = self._own_instance()
        if self._stock is None:
            self._groups = Groups.find(self._mark)
            told = rootless.arguments(self._users, self._groups) if self._users is not None else ()
            self._spawner = Spawner(self._settings.bundle, instance.directory / "stage", told)
            self._networks = Networks(self._mark, instance.token)
            size = self._settings.prepared
            carrier = Carrier(self._passages)
            self._stock = Stock(self._spawner, self._groups, self._networks, carrier, instance, size)
        return self._stock, instance

    def _reconcile(self, instance: Instance) -> int:
        """Processes first, with their groups: what they use goes with them."""
        found = set()
        groups = Groups.find(self._mark)
        for token in groups.engines():
            if not instance.is_live(instance.directory.with_name(f"engine-{token}")):
                groups.clear(token)
        for token, alias in bridges.aliases().items():
            if alias == self._mark and not instance.is_live(instance.directory.with_name(f"engine-{token}")):
                bridges.remove(token)
        for directory in (*instance.others(), instance.directory):
            for path in sandboxes_in(directory):
                if path.name != "stage" and not self._is_held(instance, directory, path.name):
                    found.add(path)
                    sweep(path)
            if not instance.is_live(directory):
                sweep(directory)
        return len(found)

    def _is_held(self, instance: Instance, directory: Path, sandbox_id: str) -> bool:
        """Asked for each one at the last moment: sandboxes are started and destroyed meanwhile."""
        return sandbox_id in self._roster.held if directory == instance.directory else instance.is_live(directory)


def _directory(settings: EngineSettings) -> Path:
    return settings.images or settings.state_dir.parent / "images"


def _images(settings: EngineSettings) -> Images:
    from rie.rootfs.images import Images as Unpacked

    found: Images = Unpacked(_directory(settings), insecure=settings.insecure_registries)
    return found
