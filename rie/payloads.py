"""What the service's parser takes as JSON: orjson's, and the two things that orjson refuses and the service doesn't."""

from __future__ import annotations

import json
from typing import NoReturn

import orjson


def check_json(text: bytes) -> None:
    """Raises orjson.JSONDecodeError, with what orjson has against it, for what is no JSON in UTF-8.

    Halves of surrogate pairs (what JSON.stringify makes of a string that was cut inside an emoji) and numbers past a
    double's range are events as any other: the service passes them on, and what they mean is the runtime's to say.
    """
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if not _is_json(text):
            raise error from None


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(name: str) -> NoReturn:
    """NaN, Infinity and -Infinity, which are Python's alone."""
    raise ValueError(name)
