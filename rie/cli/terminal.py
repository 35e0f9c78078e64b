"""What functions print, made safe for a terminal: it may be written to take the terminal over."""

from __future__ import annotations

KEPT = "\t\n"
HARMLESS = {number: f"\\x{number:02x}" for number in (*range(32), *range(127, 160)) if chr(number) not in KEPT}


def printable(text: str) -> str:
    """Control characters, but for tabs and newlines, as \\xNN."""
    return text.translate(HARMLESS)
