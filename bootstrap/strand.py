"""One environment's part of a log that several share: its lines carry its mark, and its tail is its own."""

from .wire import MAX_LOG_TAIL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .output import Log


class Strand:
    """What an environment's shell needs of a log."""

    def __init__(self, log: "Log", mark: bytes) -> None:
        self._log = log
        self._mark = mark
        self._tail = bytearray()

    def begin(self) -> None:
        """A new invocation: its tail starts empty."""
        self._tail.clear()

    def tail(self) -> bytes:
        """The last 4 KB since `begin`, as they were without marks."""
        return bytes(self._tail[-MAX_LOG_TAIL:])

    def write_record(self, text: bytes) -> None:
        """As `Log.write_record`; no manager runs several environments in one sandbox."""
        self.write(text)

    def write(self, text: bytes) -> None:
        """Take whole lines, newline included."""
        self._tail += text
        if len(self._tail) > 16 * MAX_LOG_TAIL:
            del self._tail[:-MAX_LOG_TAIL]
        mark = self._mark
        self._log.write(mark + text[:-1].replace(b"\n", b"\n" + mark) + b"\n" if mark else text)
