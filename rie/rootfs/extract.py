"""A layer's archive → files below the current root: what overlayfs will stack.

Runs with the layer's directory as root directory (`unpacker` sees to that), so that no name, link or chain of links
leads out of it, whatever the archive says. Within it links are followed as Docker follows them.
"""

from __future__ import annotations

import errno
import os
import stat

from rie.rootfs import names, tar
from rie.rootfs.chunks import Chunks
from rie.rootfs.tar import DIRECTORY, FIFO, FILE, HARD_LINK, SYMLINK, Entry, TarError

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
SPECIAL_BITS = 0o7000
# What a user needs who is not root, to remove a directory again, and to read a file.
MODE_WITHOUT_ROOT = {DIRECTORY: 0o700, FILE: 0o400, HARD_LINK: 0o400}
IMPLIED_MODE = 0o755  # of directories that no entry describes, as with Docker
LAST_NS = (1 << 34) * 1_000_000_000  # the last instant that ext4 can keep, in the year 2446
MAX_DETOURS = 10_000  # each makes us look at all parents again; honest archives have a handful
WHITEOUT = stat.S_IFCHR  # with device number 0:0


class Extracted:
    """What a layer came to: bytes of data, entries, and whether it hides everything below it."""

    __slots__ = ("data_bytes", "entries", "is_opaque")

    def __init__(self) -> None:
        self.data_bytes = 0
        self.entries = 0
        self.is_opaque = False


class Extraction:
    """The extraction of one archive.

    `trash` is a directory outside the root on the same file system: what an entry replaces is moved there at once,
    however much it is. `is_root` says whether owners, and attributes that need root, can be set.
    """

    def __init__(self, source: Chunks, trash: int, max_entries: int, is_root: bool) -> None:
        self._source = source
        self._trash = trash
        self._max_entries = max_entries
        self._is_root = is_root
        self._opaque = "trusted.overlay.opaque" if is_root else "user.overlay.opaque"
        self._known: set[bytes] = {b""}  # directories that are there
        self._times: dict[bytes, int] = {}  # directories' mtimes, to be set when nothing changes them any more
        self._replaced = 0
        self._detours = 0
        self._done = Extracted()

    def run(self) -> Extracted:
        """Extract everything. Raises TarError for what no image may have, OSError for what the host refuses."""
        done = self._done
        for entry in tar.entries(self._source):
            self._count()
            done.data_bytes += entry.size
            try:
                self._add(entry)
            except OSError as error:
                raise _explained(error, entry.name) from error
        self._set_times()
        return done

    def _count(self) -> None:
        self._done.entries += 1
        if self._done.entries > self._max_entries:
            raise TarError(f"it has more than {self._max_entries:,} entries")

    def _add(self, entry: Entry) -> None:
        if not self._is_root:
            entry.mode |= MODE_WITHOUT_ROOT.get(entry.kind, 0)
        path = names.path_of(entry.name)
        if not path:
            if entry.kind == DIRECTORY:
                self._describe_directory(b"", entry)
                return
            raise TarError(f"{names.shown(entry.name)} is the root directory, and no directory")
        if b".wh." in path and self._whiteout(path, entry):
            return
        if names.is_own_device(entry, path):
            return
        self._make_parents(path)
        if entry.kind == FILE:
            self._file(path, entry)
        elif entry.kind == DIRECTORY:
            self._directory(path, entry)
        elif entry.kind == HARD_LINK:
            self._hard_link(path, entry)
        elif entry.kind in (SYMLINK, FIFO):
            self._link_or_fifo(path, entry)

    # -- kinds of entries ----------------------------------------------------------------------------------------------

    def _file(self, path: bytes, entry: Entry) -> None:
        try:
            descriptor = os.open(path, NEW, entry.mode & 0o777)
        except FileExistsError:
            self._replace(path)
            descriptor = os.open(path, NEW, entry.mode & 0o777)
        try:
            if entry.segments is not None:
                os.ftruncate(descriptor, entry.length)
                for offset, size in entry.segments:
                    os.lseek(descriptor, offset, os.SEEK_SET)
                    self._copy(descriptor, size)
            elif entry.size:
                self._copy(descriptor, entry.size)
            if self._is_root:
                os.fchown(descriptor, entry.uid, entry.gid)
            if entry.mode & SPECIAL_BITS:
                os.fchmod(descriptor, entry.mode)
            if entry.xattrs:
                self._set_xattrs(descriptor, entry)
            os.utime(descriptor, ns=_times(entry))
        finally:
            os.close(descriptor)

    def _copy(self, descriptor: int, size: int) -> None:
        for piece in self._source.pieces(size):
            while piece:
                piece = piece[os.write(descriptor, piece) :]

    def _directory(self, path: bytes, entry: Entry) -> None:
        try:
            os.mkdir(path, entry.mode & 0o777)
        except FileExistsError:
            found = os.lstat(path)
            if not stat.S_ISDIR(found.st_mode):
                self._replace(path)
                os.mkdir(path, entry.mode & 0o777)
                if stat.S_ISCHR(found.st_mode):  # its own whiteout: it hides what is below, not what this layer brings
                    os.setxattr(path, self._opaque, b"y")
        self._describe_directory(path, entry)

    def _describe_directory(self, path: bytes, entry: Entry) -> None:
        place = path or b"."
        if self._is_root:
            os.chown(place, entry.uid, entry.gid)
        os.chmod(place, entry.mode)
        if entry.xattrs:
            self._set_xattrs(place, entry)
        self._known.add(path)
        self._times.pop(path, None)
        self._times[path] = _times(entry)[0]

    def _hard_link(self, path: bytes, entry: Entry) -> None:
        target = names.path_of(entry.link, "the target of a hard link")
        if not target or target == path:
            raise TarError(f"{names.shown(path)} is a hard link to {names.shown(entry.link)}")
        try:
            try:
                os.link(target, path, follow_symlinks=False)
            except FileExistsError:
                self._replace(path)
                os.link(target, path, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            raise TarError(
                f"{names.shown(path)} is a hard link to {names.shown(entry.link)}, which is no file of this layer"
            ) from None
        if stat.S_ISREG(os.lstat(path).st_mode):  # the last entry of a file describes it, as with Docker
            if self._is_root:
                os.chown(path, entry.uid, entry.gid)
            os.chmod(path, entry.mode)
            self._set_xattrs(path, entry)
            os.utime(path, ns=_times(entry))

    def _link_or_fifo(self, path: bytes, entry: Entry) -> None:
        try:
            self._make(path, entry)
        except FileExistsError:
            self._replace(path)
            self._make(path, entry)
        if self._is_root:
            os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
        if entry.kind == FIFO and entry.mode & SPECIAL_BITS:
            os.chmod(path, entry.mode)
        if entry.xattrs and entry.kind == FIFO:
            self._set_xattrs(path, entry)
        os.utime(path, ns=_times(entry), follow_symlinks=False)

    def _make(self, path: bytes, entry: Entry) -> None:
        if entry.kind == FIFO:
            os.mkfifo(path, entry.mode & 0o777)
        else:
            os.symlink(entry.link, path)

    # -- whiteouts -----------------------------------------------------------------------------------------------------

    def _whiteout(self, path: bytes, entry: Entry) -> bool:
        """Whether the name was a whiteout, which is then in force."""
        directory = names.opaque_directory(path)
        if directory is not None:
            self._make_parents(path)
            os.setxattr(directory or b".", self._opaque, b"y")
            self._done.is_opaque = self._done.is_opaque or not directory
        elif (hidden := names.hidden_by(path)) is not None:
            self._make_parents(path)
            self._hide(hidden)
        elif not names.is_reserved(path):
            return False
        self._source.skip(entry.size)
        return True

    def _hide(self, path: bytes) -> None:
        """Hide what layers below have at a path; what this one has there stays."""
        try:
            os.mknod(path, WHITEOUT, 0)
        except FileExistsError:
            if stat.S_ISDIR(os.lstat(path).st_mode):
                os.setxattr(path, self._opaque, b"y")

    # -- what they have in common --------------------------------------------------------------------------------------

    def _make_parents(self, path: bytes) -> None:
        parent = path.rpartition(b"/")[0]
        if parent in self._known:
            return
        self._make_parents_of_unknown(parent)

    def _make_parents_of_unknown(self, parent: bytes) -> None:
        """Top down and without recursion: a hostile name has thousands of parts."""
        at = 0
        while at < len(parent):
            end = parent.find(b"/", at)
            end = len(parent) if end < 0 else end
            path = parent[:end]
            at = end + 1
            if path in self._known:
                continue
            self._count()
            try:
                os.mkdir(path, IMPLIED_MODE)
            except FileExistsError:
                self._pass_through(path)
            self._known.add(path)

    def _pass_through(self, path: bytes) -> None:
        """What is at the place of a directory: one, a link to one, or a whiteout that it takes the place of."""
        found = os.lstat(path)
        if stat.S_ISCHR(found.st_mode):
            self._replace(path)
            os.mkdir(path, IMPLIED_MODE)
            os.setxattr(path, self._opaque, b"y")
        elif not stat.S_ISDIR(found.st_mode) and not stat.S_ISDIR(os.stat(path).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)

    def _replace(self, path: bytes) -> None:
        """Move away what an earlier entry of this layer has put there."""
        mode = os.lstat(path).st_mode
        if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
            self._detours += 1
            if self._detours > MAX_DETOURS:
                raise TarError(f"it replaces more than {MAX_DETOURS:,} directories and links by something else")
            self._known = {b""}
        self._replaced += 1
        os.rename(path, b"%d" % self._replaced, dst_dir_fd=self._trash)

    def _set_times(self) -> None:
        """Directories last, and only those that have not been replaced meanwhile."""
        for path, mtime_ns in reversed(self._times.items()):
            place = path or b"."
            try:
                if stat.S_ISDIR(os.lstat(place).st_mode):
                    os.utime(place, ns=(mtime_ns, mtime_ns))
            except OSError as error:
                if error.errno in HOST:
                    raise

    def _set_xattrs(self, place: int | bytes, entry: Entry) -> None:
        for name, value in entry.xattrs.items():
            if not names.is_safe_xattr(name) or (not self._is_root and not name.startswith("user.")):
                continue
            try:
                os.setxattr(place, name, value)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.E2BIG, errno.ERANGE):  # not the disk: an inode holds so much
                    raise TarError(f"{names.shown(entry.name)} has attributes that are too large") from None
                if error.errno not in (errno.EOPNOTSUPP, errno.EPERM):  # the file system has none, as with Docker
                    raise


def _times(entry: Entry) -> tuple[int, int]:
    instant = min(max(entry.mtime_ns, 0), LAST_NS)
    return instant, instant


HOST = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE})


def _explained(error: OSError, name: bytes) -> Exception:
    """Errors of the host stay what they are; the others are the archive's, which made a path that can't be."""
    if error.errno in HOST:
        return error
    return TarError(f"{names.shown(name)} cannot be made: {error.strerror}")
