"""The JSON log format: platform events as objects, application lines filtered by their level (service spec §11.4)."""

import json

from .output import timestamp
from .platform_records import Platform, level_of
from .settings import LEVELS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .records import Record
    from .settings import Settings

DEFAULT_LEVEL = "INFO"  # of a line that has none, or none that is known


class JsonLines:
    """One line for each event whose level is at least the system's; as `log_lines.Lines`."""

    has_runtime_done = True
    has_filter = True

    def __init__(self, settings: "Settings", version: str) -> None:
        self._platform = Platform(settings, version)
        self._least = LEVELS.index(settings.system_level)
        self._least_of_function = LEVELS.index(settings.application_level)

    def of(self, report: "Record", used_mb: int) -> str:
        """As `Lines.of`."""
        text = ""
        for kind, record in self._platform.render(report, used_mb):
            # This format has no END.
            if kind != "platform.end" and LEVELS.index(level_of(kind, record)) >= self._least:
                event = {"time": timestamp(), "type": kind, "record": record}
                text += json.dumps(event, separators=(",", ":")) + "\n"
        return text

    def kept(self, text: bytes, is_record: bool) -> bytes:
        """As `Lines.kept`: objects below the function's level are left out; what is no object always stays."""
        if is_record:
            return self._kept(text)
        if b"{" not in text:
            return text
        return b"".join(self._kept(line + b"\n") for line in text.removesuffix(b"\n").split(b"\n"))

    def _kept(self, line: bytes) -> bytes:
        if not line.lstrip().startswith(b"{"):
            return line
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            return line
        level = str(document.get("level", DEFAULT_LEVEL)).upper()
        if LEVELS.index(level if level in LEVELS else DEFAULT_LEVEL) < self._least_of_function:
            return b""
        if not is_instant(document.get("timestamp")):
            document["timestamp"] = timestamp()
            return json.dumps(document, separators=(",", ":")).encode() + b"\n"
        return line


def is_instant(value: object) -> bool:
    """Whether it is of RFC 3339: 2025-11-25T02:26:54.123Z."""
    if not isinstance(value, str) or len(value) < 20:
        return False
    shape = "".join("0" if character.isdigit() else character for character in value[:19])
    fraction, zone = value[19:], value[19:].lstrip(".0123456789")
    is_zone = zone.upper() == "Z" or (len(zone) == 6 and zone[0] in "+-" and zone[3] == ":")
    return shape.upper() == "0000-00-00T00:00:00" and is_zone and not fraction.startswith(".Z")
