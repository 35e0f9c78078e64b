"""What is done to make a sandbox, one small record an operation: `describe` says it, `execute` does it.

Paths of the host are absolute; paths of the sandbox are given below `root`, where its file system is put together
before it becomes "/".
"""

import _socket
import os
import resource

from bootstrap.records import Record

from . import kernel

NOSUID_NODEV = kernel.MS_NOSUID | kernel.MS_NODEV
CLOSED = NOSUID_NODEV | kernel.MS_NOEXEC
# What image layers might ask of the overlay file system is refused: only whiteouts and opaque directories count.
OVERLAY = "redirect_dir=nofollow,metacopy=off"
ROOTLESS_OVERLAY = f"{OVERLAY},userxattr"  # marks of opaque directories that a user may set
KEPT = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC  # statvfs(3) has the same numbers


class Overlay(Record):
    """The image's layers over each other, read-only; `lowers` has the topmost first, `label` is what
    the list of mounts calls it."""

    lowers: "tuple[str, ...]"
    root: str
    label: str
    options: str = OVERLAY

    def describe(self) -> str:
        """One line."""
        return f"overlay {len(self.lowers)} layers, read-only, at {self.root}"

    def execute(self) -> None:
        """Through descriptors: mount(2) takes a page of options, which the paths of many layers would not fit into."""
        fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for path in self.lowers]
        try:
            lowers = ":".join(f"/proc/self/fd/{fd}" for fd in fds)
            flags = kernel.MS_RDONLY | NOSUID_NODEV
            kernel.mount(self.label, self.root, "overlay", flags, f"{self.options},lowerdir={lowers}")
        finally:
            for fd in fds:
                os.close(fd)


class Files(Record):
    """Small files for the topmost layer, which the image's own can't stand for; pairs of a name and a text."""

    directory: str
    files: "tuple[tuple[str, str], ...]"

    def describe(self) -> str:
        """One line."""
        return f"write {', '.join(name for name, _ in self.files)} into {self.directory}"

    def execute(self) -> None:
        """Everybody may read them, whatever the umask."""
        os.mkdir(self.directory)
        os.chmod(self.directory, 0o755)
        for name, text in self.files:
            fd = os.open(f"{self.directory}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            os.write(fd, text.encode())
            os.fchmod(fd, 0o644)
            os.close(fd)


class Bind(Record):
    """A file or directory of the host, at a place that we have made in the sandbox's file system."""

    source: str
    target: str
    flags: int

    def describe(self) -> str:
        """One line."""
        return f"bind {self.source} at {self.target} ({_words(self.flags)})"

    def execute(self) -> None:
        """A bind mount takes its flags in a second call only; MS_REC is about what is mounted below the source."""
        kernel.mount(self.source, self.target, flags=kernel.MS_BIND | self.flags & kernel.MS_REC)
        flags = kernel.MS_BIND | kernel.MS_REMOUNT | self.flags & ~kernel.MS_REC
        try:
            kernel.mount("", self.target, flags=flags)
        except PermissionError:  # in a user namespace, what the host's mount forbids can't be allowed
            kernel.mount("", self.target, flags=flags | os.statvfs(self.target).f_flag & KEPT)


class Given(Record):
    """A directory of the host at a path of the image, whose links must not lead out of the sandbox."""

    source: str
    root: str
    target: str

    def describe(self) -> str:
        """One line."""
        return f"bind {self.source} at {self.target} of the image (read-only)"

    def execute(self) -> None:
        """Resolve the path as the sandbox will see it, and mount there."""
        root = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            place = kernel.open_in_root(root, self.target)
        finally:
            os.close(root)
        try:
            # Where it is, is read off the kernel: the descriptor itself would show what lies under the new mount.
            path = os.readlink(f"/proc/self/fd/{place}")
            Bind(self.source, path, kernel.MS_RDONLY | NOSUID_NODEV).execute()
        finally:
            os.close(place)


class Disk(Record):
    """The file system on a block device."""

    device: str
    target: str
    options: str

    def describe(self) -> str:
        """One line."""
        return f"mount {self.device} at {self.target} (nosuid, nodev)"

    def execute(self) -> None:
        """From now on the mount holds the device, and lets it go when the last process of the sandbox ends."""
        kernel.mount(self.device, self.target, "ext4", NOSUID_NODEV | kernel.MS_NOATIME, self.options)


class Memory(Record):
    """A file system in memory, bounded."""

    target: str
    options: str
    flags: int = NOSUID_NODEV

    def describe(self) -> str:
        """One line."""
        return f"tmpfs at {self.target} ({self.options})"

    def execute(self) -> None:
        """A tmpfs."""
        kernel.mount("tmpfs", self.target, "tmpfs", self.flags, self.options)


class Processes(Record):
    """A /proc of this PID namespace; what tells of the host is hidden, what changes it read-only.

    `nothing` is a null device, to stand for hidden files.
    """

    target: str
    nothing: str

    def describe(self) -> str:
        """One line."""
        return f"proc at {self.target}, its dangerous parts masked"

    def execute(self) -> None:
        """Docker's lists: hidden and read-only paths."""
        kernel.mount("proc", self.target, "proc", CLOSED)
        for name in HIDDEN:
            path = f"{self.target}/{name}"
            if os.path.isdir(path):
                kernel.mount("tmpfs", path, "tmpfs", CLOSED | kernel.MS_RDONLY, "size=0k,mode=0555")
            elif os.path.exists(path):
                Bind(self.nothing, path, kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NOEXEC).execute()
        for name in READ_ONLY:
            path = f"{self.target}/{name}"
            if os.path.exists(path):
                Bind(path, path, CLOSED | kernel.MS_RDONLY).execute()


HIDDEN = (
    *("acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list"),
    "timer_stats",
)
READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")


class Move(Record):
    """A mount made ahead, to its place."""

    source: str
    target: str

    def describe(self) -> str:
        """One line."""
        return f"move {self.source} to {self.target}"

    def execute(self) -> None:
        """With all that is mounted in it."""
        kernel.mount(self.source, self.target, flags=kernel.MS_MOVE)


class Pivot(Record):
    """The sandbox's file system becomes "/"; the host's is gone."""

    root: str

    def describe(self) -> str:
        """One line."""
        return f"pivot_root to {self.root}"

    def execute(self) -> None:
        """pivot_root, not chroot: from a chroot there are ways back."""
        kernel.pivot_root(self.root)


class Users(Record):
    """A user namespace that was made ahead."""

    namespace: int

    def describe(self) -> str:
        """One line."""
        return "enter the sandbox's own user namespace"

    def execute(self) -> None:
        """After all mounts: they belong to the namespace that we leave, where nobody in here has any right."""
        kernel.setns(self.namespace, kernel.CLONE_NEWUSER)
        os.close(self.namespace)


class ProcessCount(Record):
    """How many processes there may be, where no control group counts them."""

    most: int

    def describe(self) -> str:
        """One line."""
        return f"at most {self.most} processes of this user namespace"

    def execute(self) -> None:
        """In the sandbox's own user namespace, because the kernel counts in each (since Linux 5.14)."""
        resource.setrlimit(resource.RLIMIT_NPROC, (self.most, self.most))


class FirstVictim(Record):
    """Who is to be killed if the machine has no memory left."""

    score: int

    def describe(self) -> str:
        """One line."""
        return f"oom_score_adj {self.score}"

    def execute(self) -> None:
        """Of the whole sandbox; whoever makes it higher may, and nobody can make it lower."""
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(self.score))


class Closed(Record):
    """A bootstrap that is the same user as its function is no less out of its reach."""

    def describe(self) -> str:
        """One line."""
        return "not dumpable: /proc/1 tells nothing to the same user, nor can it be traced"

    def execute(self) -> None:
        """Until the next program is executed, which the bootstrap never does as this process."""
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


class Hostname(Record):
    """The name of the machine."""

    name: str

    def describe(self) -> str:
        """One line."""
        return f"hostname {self.name}"

    def execute(self) -> None:
        """In a UTS namespace of the sandbox's own."""
        _socket.sethostname(self.name)


class Limits(Record):
    """Open files; no core dumps, which would go where the host's core_pattern says."""

    open_files: int

    def describe(self) -> str:
        """One line."""
        return f"at most {self.open_files} open files, no core dumps"

    def execute(self) -> None:
        """Soft and hard; processes are counted by a control group where there is one."""
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.open_files, self.open_files))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Capabilities(Record):
    """What the bootstrap may still do as root; numbers of linux/capability.h."""

    kept: "tuple[int, ...]"

    def describe(self) -> str:
        """One line."""
        return f"keep capabilities {self.kept}, give up all others"

    def execute(self) -> None:
        """No program can bring them back."""
        kernel.keep_capabilities(self.kept)
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)


class Seccomp(Record):
    """The list of system calls that may be made."""

    program: kernel.Filter

    def describe(self) -> str:
        """One line."""
        return f"seccomp filter of {self.program.length} instructions"

    def execute(self) -> None:
        """The last operation: those before need calls that it refuses."""
        kernel.install_filter(self.program)


def _words(flags: int) -> str:
    names = {
        kernel.MS_RDONLY: "read-only",
        kernel.MS_NOSUID: "nosuid",
        kernel.MS_NODEV: "nodev",
        kernel.MS_NOEXEC: "noexec",
    }
    return ", ".join(name for flag, name in names.items() if flags & flag) or "as it is"
