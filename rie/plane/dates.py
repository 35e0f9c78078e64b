"""The Date of answers, made once a second."""

from __future__ import annotations

import time
from email.utils import formatdate

_dated_at = 0
_date_line = ""


def date_line() -> str:
    """`Date: …`, with its line end."""
    global _dated_at, _date_line
    now = int(time.time())
    if now != _dated_at:
        _dated_at = now
        _date_line = f"Date: {formatdate(now, usegmt=True)}\r\n"
    return _date_line
