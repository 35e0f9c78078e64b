"""What is to be done for one sandbox, in order: decided here from its specification, without doing anything (pure)."""

from bootstrap.records import Record
from bootstrap.wire import BUNDLE, DIR_IN_SANDBOX, ENV_MEMORY_LIMIT

from . import kernel
from .operations import (
    CLOSED,
    NOSUID_NODEV,
    OVERLAY,
    ROOTLESS_OVERLAY,
    Bind,
    Capabilities,
    Closed,
    Files,
    FirstVictim,
    Given,
    Hostname,
    Limits,
    Memory,
    Move,
    Overlay,
    Pivot,
    Place,
    ProcessCount,
    Seccomp,
    Users,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Operation(Protocol):
        """One step."""

        def describe(self) -> str:
            """One line of text."""

        def execute(self) -> None:
            """Raises OSError."""


# The bootstrap starts as root, gives the function another user, and kills what is left of it. Nothing else.
KILL, SETGID, SETUID = 5, 6, 7
SYS_PTRACE = 19  # where it watches the function's memory: to be told what of it is shared
ROOTLESS_SCORE = 900  # of 1,000; without a control group nothing else keeps the kernel from killing the manager first
# The places of a sandbox that are ours, below its root; the skeleton, the topmost layer, has them as plain directories
# and files, so that nothing of the image can stand there, and no link of it can lead us elsewhere.
PLACES = ("proc", "dev", "tmp", "sys/fs/cgroup/memory", BUNDLE[1:], DIR_IN_SANDBOX[1:])
OURS = ("proc", "dev", "tmp", "sys", "etc", "run")


class Stage(Record):
    """Directories of the launcher, seen by its children only: where a sandbox is put together, and what all share."""

    root: str
    processes: str
    devices: str
    skeleton: str
    top: str
    disk: str


class Sandbox(Record):
    """What the manager says of one sandbox; paths of the host, `layers` the lowest first.

    `label` is the image's digest, by which those who collect images see that this one is in use.

    `files` are those of /etc that are this sandbox's alone; `has_disk` says that its /tmp was mounted ahead, else it is
    a tmpfs of `tmp_mb`; `given` pairs of a directory and where it lies over the image; `groups` pairs of a control
    group's directory and where it is seen, below the root; `pids` how many processes there may be, 0 if a control group
    counts them.
    """

    hostname: str
    label: str
    layers: "list[str]"
    files: "dict[str, str]"
    bundle: str
    run: str
    has_disk: bool
    tmp_mb: int
    given: "list[list[str]]"
    groups: "list[list[str]]"
    open_files: int
    environment: "dict[str, str]"
    argv: "list[str]"
    is_kept: bool = False  # its bootstrap is, or comes from, a snapshot (launcher.checkpoint)
    keeps: int = 0  # the bootstrap's number in the snapshot, 0 if it has to be started
    restore: "dict[str, Any] | None" = None  # then: "command", as launcher.criu.Command has it, and "address"
    pids: int = 0


class Rootless(Record):
    """What a sandbox has of a launcher without root: a descriptor of its own user namespace, made ahead; and whether
    the function is another user there than the bootstrap."""

    namespace: int
    has_own_user: bool


def plan(
    sandbox: Sandbox,
    stage: Stage,
    program: kernel.Filter,
    rootless: "Rootless | None" = None,
    restore: "Operation | None" = None,
) -> "list[Operation]":
    """Every operation from an empty sandbox to one that is closed. Raises ValueError for a place that is ours.

    `restore` has to see the whole file system, and to have rights that are given up right after it.
    """
    root = stage.root
    overlay = ROOTLESS_OVERLAY if rootless else OVERLAY
    operations: list[Operation] = [
        Files(f"{stage.top}/etc", tuple(sandbox.files.items())),
        Overlay((stage.top, stage.skeleton, *reversed(sandbox.layers)), root, sandbox.label, overlay),
        Move(stage.processes, f"{root}/proc"),
        # One /dev for all: nobody can write into it, and devices work on a read-only mount.
        Bind(stage.devices, f"{root}/dev", kernel.MS_REC | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NOEXEC),
    ]
    if sandbox.is_kept:
        # criu keeps there what it has found out of the kernel, and on nothing but a tmpfs.
        operations += [Memory(f"{root}/run", "size=64k,mode=0755"), Place(root + DIR_IN_SANDBOX)]
    operations += [_given(source, target, root, stage.skeleton, overlay) for source, target in sandbox.given]
    # After what lies over the image, which may be the directory above.
    operations.append(Bind(sandbox.bundle, root + BUNDLE, kernel.MS_RDONLY | NOSUID_NODEV))
    if rootless is None or rootless.has_own_user:  # else the function could open what is there: see blank.live
        operations.append(Bind(sandbox.run, root + DIR_IN_SANDBOX, CLOSED))
    # The bootstrap reads there whether the kernel has killed for want of memory.
    operations += [Bind(group, f"{root}/{place}", kernel.MS_RDONLY | CLOSED) for group, place in sandbox.groups]
    if sandbox.has_disk:
        operations.append(Move(stage.disk, f"{root}/tmp"))
    else:
        operations.append(Memory(f"{root}/tmp", f"size={sandbox.tmp_mb}m,mode=1777"))
    operations += [Pivot(root), Hostname(sandbox.hostname)]
    if restore is not None:
        operations.append(restore)
    operations.append(Limits(sandbox.open_files))
    operations += _of_users(sandbox, rootless) if rootless else [Capabilities((KILL, SETGID, SETUID))]
    operations.append(Seccomp(program))
    return operations


def _of_users(sandbox: Sandbox, rootless: Rootless) -> "list[Operation]":
    """Where root is none: what control groups and another user do elsewhere, as far as it can be done."""
    operations: list[Operation] = [FirstVictim(ROOTLESS_SCORE), Users(rootless.namespace)]
    if sandbox.pids:
        operations.append(ProcessCount(sandbox.pids))
    if rootless.has_own_user:
        watching = (SYS_PTRACE,) if ENV_MEMORY_LIMIT in sandbox.environment else ()
        return [*operations, Capabilities((KILL, SETGID, SETUID, *watching))]
    return [*operations, Capabilities(()), Closed()]


def _given(source: str, target: str, root: str, skeleton: str, overlay: str) -> "Operation":
    first = target.strip("/").split("/")[0]
    if first in ("", *OURS) or f"{target.rstrip('/')}/".startswith(f"{BUNDLE}/"):
        raise ValueError(f"cannot mount at {target}: the sandbox has its own there")
    if f"{BUNDLE}/".startswith(f"{target.rstrip('/')}/"):
        # Our bundle lies below: the place for it comes from the skeleton.
        return Overlay((skeleton + target.rstrip("/"), source), root + target.rstrip("/"), "overlay", overlay)
    return Given(source, root, target)


def describe(operations: "list[Operation]") -> str:
    """The plan as text, a line an operation."""
    return "\n".join(operation.describe() for operation in operations)


def read(message: "dict[str, Any]") -> Sandbox:
    """A sandbox from the manager's message."""
    return Sandbox(**message)
