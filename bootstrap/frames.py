"""Framed log records among the lines of a pipe: AWS's runtime clients write them, so that a record may have many lines.

A client that finds _LAMBDA_TELEMETRY_LOG_FD writes each record to that descriptor as a frame: 0xA55A00, a byte for its
kind, four for its length, eight for its instant (µs since 1970; all big-endian), and the record. Here the descriptor
leads into the pipe of standard output: what is logged and what is printed keep their order.
"""

from .output import MAX_LINE, LineReader, character_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .output import Taker

MAGIC = b"\xa5\x5a\x00"
FIRST = MAGIC[:1]
HEADER = 16
KINDS = frozenset(kind | 2 for kind in range(0x20))  # bit 0: text, not JSON; bit 1: has an instant; then its level
INSTANTS = range(10**15, 5 * 10**15)  # 2001 to 2128: what looks like a header is one


class FrameReader(LineReader):
    """Cuts a pipe into lines, and passes on frames in between as one record each."""

    def __init__(self, fd: int, taker: "Taker", name: str = "") -> None:
        super().__init__(fd, taker, name)
        self._held = b""  # perhaps the beginning of a header
        self._left = 0  # bytes of the frame that are still to come
        self._record = bytearray()

    def _take(self, data: bytes) -> None:
        if FIRST not in data and not self._left and not self._held:
            super()._take(data)  # as nearly always
            return
        if self._held:
            data, self._held = self._held + data, b""
        while data:
            if self._left:
                data = self._go_on(data)
                continue
            at = _frame_at(data)
            if at < 0:
                super()._take(data)
                return
            if at:
                super()._take(data[:at])
                data = data[at:]
            if len(data) < HEADER:
                self._held = data
                return
            super().flush()  # what was printed before it, and has no end
            self._left = int.from_bytes(data[4:8], "big")
            data = data[HEADER:]

    def _go_on(self, data: bytes) -> bytes:
        """Take of the frame what is here; what comes after it."""
        self._record += data[: self._left]
        rest = data[self._left :]
        self._left -= len(data) - len(rest)
        while len(self._record) > MAX_LINE:
            at = character_end(self._record, MAX_LINE)
            self._pass_on_record(bytes(self._record[:at]))
            del self._record[:at]
        if not self._left:
            self._end_record()
        return rest

    def _end_record(self) -> None:
        if self._record:
            self._pass_on_record(bytes(self._record))
            self._record.clear()

    def _pass_on_record(self, record: bytes) -> None:
        self._take_lines(self.name, record if record.endswith(b"\n") else record + b"\n", True)

    def flush(self) -> None:
        """As `LineReader.flush`; what belongs to a frame waits for the rest of it."""
        if not self._left and not self._held:
            super().flush()

    def end(self) -> None:
        """As `LineReader.end`."""
        held, self._held = self._held, b""
        if held:
            super()._take(held)
        self._left = 0
        self._end_record()
        super().end()


def _frame_at(data: bytes) -> int:
    """Where a header begins, or may begin when more has come; -1 for nowhere."""
    at = data.find(MAGIC)
    while at >= 0:
        header = data[at : at + HEADER]
        if len(header) < HEADER or (header[3] in KINDS and int.from_bytes(header[8:], "big") in INSTANTS):
            return at
        at = data.find(MAGIC, at + 1)
    for size in (2, 1):
        if data.endswith(MAGIC[:size]):
            return len(data) - size
    return -1
