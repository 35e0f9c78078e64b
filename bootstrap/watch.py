"""Watch mode: sees that the function's files have changed, by looking at them.

Not with inotify: a directory mounted from another system, as from macOS or Windows into a container, tells of nothing.
"""

import os
import time

from .events import CodeChanged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from .loop import Loop

INTERVAL_S = 0.5
SHARE = 20  # of the time between two looks is spent on looking at most: a large tree is looked at less often
NOT_CODE = ("__pycache__", ".git")
TIMER = "watch"


class Watch:
    """Tells the machine CodeChanged."""

    def __init__(self, loop: "Loop", directory: str, tell: "Callable[[CodeChanged], None]") -> None:
        """`loop` gives the time and the log; `tell` passes the news on."""
        self._loop = loop
        self._tell = tell
        self._directory = directory
        self._known = look(directory)
        loop.repeat(TIMER, INTERVAL_S, self._look)

    def _look(self) -> None:
        began = time.monotonic()
        found = look(self._directory)
        changed = first_change(self._known, found)
        self._known = found
        if changed:
            line = f"rie: {changed} has changed; the next invocation begins with a new runtime\n"
            self._loop.log.write(line.encode("utf-8", "surrogateescape"))
            self._tell(CodeChanged())
        interval_s = max(INTERVAL_S, SHARE * (time.monotonic() - began))
        self._loop.repeat(TIMER, interval_s, self._look)


def look(directory: str) -> "dict[str, tuple[int, int, int]]":
    """What is below a directory now, by path: modification time in ns, octets, inode. Links lead to no directory."""
    found = {}
    places = [directory]
    while places:
        try:
            entries = list(os.scandir(places.pop()))
        except OSError:
            continue
        for entry in entries:
            if entry.name in NOT_CODE or entry.name.endswith(".pyc"):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    places.append(entry.path)
                else:
                    status = entry.stat()  # of what a link points to
                    found[entry.path] = (status.st_mtime_ns, status.st_size, status.st_ino)
            except OSError:
                continue  # gone meanwhile, or a link to nowhere
    return found


def first_change(before: "dict[str, tuple[int, int, int]]", now: "dict[str, tuple[int, int, int]]") -> str:
    """A path that was changed, added or removed; empty if none was."""
    if before == now:
        return ""
    for path, state in now.items():
        if before.get(path) != state:
            return path
    return next(path for path in before if path not in now)
