"""One epoll for all descriptors and timers, of one environment or of several; it knows nothing of what they are for."""

import select
import sys
import time

from .output import PAUSE_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import Callable

    from .output import Log

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
LONGEST_S = 3_600.0  # without looking for timers
MAX_EVENTS = 64  # at a time; room for them is made anew for each call


class Selector:
    """Owns the epoll, the timers, and the moments at which the log is written: pauses in the work."""

    def __init__(self, log: "Log") -> None:
        self._log = log
        self._log_is_watched = False
        self._epoll = select.epoll()
        self._watched: dict[int, Callable[[int], None]] = {}
        self._new: set[int] = set()  # since the last poll: what that says of their numbers is of others, closed since
        self._timers: dict[Hashable, tuple[float, Callable[[], None]]] = {}
        # No timer runs down before this instant. Cancelling one leaves it as it is: that costs a look now and then,
        # where keeping it exact would cost one for each invocation.
        self._quiet_until = time.monotonic() + LONGEST_S
        self._is_over = False

    def run(self) -> None:
        """Call whoever is concerned, until `stop`."""
        poll, watched, new, log, clock = self._epoll.poll, self._watched, self._new, self._log, time.monotonic
        while not self._is_over:
            wait_s = self._quiet_until - clock()
            if log.has_backlog and not log.is_blocked and wait_s > PAUSE_S:
                wait_s = PAUSE_S
            ready = poll(wait_s if wait_s > 0 else 0, MAX_EVENTS)
            if log.has_backlog and not log.is_blocked and (not ready or log.is_due(clock())):
                log.flush()
            new.clear()
            for fd, mask in ready:
                watcher = watched.get(fd)
                if watcher is not None and fd not in new:
                    try:
                        watcher(mask)
                    except Exception:
                        _tell_fault()
            if clock() >= self._quiet_until:
                self._fire_timers()
            if log.is_blocked != self._log_is_watched:
                self._watch_log()

    def stop(self) -> None:
        """Have `run` return."""
        self._is_over = True

    def watch(self, fd: int, mask: int, watcher: "Callable[[int], None]") -> None:
        """Call `watcher(mask)` when `fd` is ready; replaces what was watched of it."""
        if fd in self._watched:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
            self._new.add(fd)
        self._watched[fd] = watcher

    def forget(self, fd: int) -> None:
        """Stop watching `fd`, which is still open."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def at(self, key: "Hashable", at: float, action: "Callable[[], None]") -> None:
        """Call `action` once at an instant (monotonic seconds); replaces the timer of that key."""
        self._timers[key] = (at, action)
        if at < self._quiet_until:
            self._quiet_until = at

    def cancel(self, key: "Hashable") -> None:
        """Forget the timer of that key, if there is one."""
        self._timers.pop(key, None)

    def repeat(self, key: "Hashable", interval_s: float, action: "Callable[[], None]") -> None:
        """Call `action` every `interval_s` seconds from now on; replaces the timer of that key."""

        def again() -> None:
            self.at(key, time.monotonic() + interval_s, again)
            action()

        self.at(key, time.monotonic() + interval_s, again)

    def _fire_timers(self) -> None:
        now = time.monotonic()
        due = [(key, action) for key, (at, action) in self._timers.items() if at <= now]
        for key, action in due:
            if self._timers.get(key, (0.0, None))[1] is not action:
                continue  # cancelled, or set anew, by one before it
            del self._timers[key]
            try:
                action()
            except Exception:
                _tell_fault()
        self._quiet_until = min([now + LONGEST_S, *(at for at, _ in self._timers.values())])

    def _watch_log(self) -> None:
        """Have the backlog written as its reader takes it."""
        self._log_is_watched = self._log.is_blocked
        if not self._log_is_watched:
            self.forget(self._log.fd)
            return
        try:
            self.watch(self._log.fd, WRITE, lambda _: self._log.flush())
        except PermissionError:
            self._log_is_watched = False  # a regular file is always ready and can't be watched


def _tell_fault() -> None:
    """One thing that goes wrong must not end PID 1, and with it the container."""
    import traceback

    sys.stderr.write(f"rie: {traceback.format_exc()}")
