"""Records to JSON and back, by their type hints, so that a new field of a record needs no code here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import orjson

Record = TypeVar("Record")


def encode(record: object) -> str:
    """A frozen record as JSON text."""
    return orjson.dumps(asdict(cast(Any, record))).decode()


def decode(record: type[Record], text: str) -> Record:
    """The record that `encode` was given.

    A field that the text lacks takes its default (the text is older than the field); one that the record lacks is
    dropped (the text is newer). Raises ValueError for what is no such record.
    """
    try:
        return cast(Record, _read(record, orjson.loads(text)))
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"cannot read a {record.__name__}: {error}") from error


@cache
def _hints(record: type) -> dict[str, tuple[Any, bool]]:
    """Per field its type, and whether it must be there."""
    types = get_type_hints(record)
    return {
        each.name: (types[each.name], each.default is MISSING and each.default_factory is MISSING)
        for each in fields(record)
    }


def _read(wanted: Any, value: Any) -> Any:
    origin = get_origin(wanted)
    if origin in (Union, UnionType):
        if value is None:
            return None
        (wanted,) = [each for each in get_args(wanted) if each is not NoneType]
        return _read(wanted, value)
    if is_dataclass(wanted):
        hints = _hints(cast(type, wanted))
        return cast(Any, wanted)(
            **{name: _read(kind, value[name]) for name, (kind, required) in hints.items() if required or name in value}
        )
    if origin is tuple:
        return tuple(_read(get_args(wanted)[0], each) for each in value)
    if origin is Mapping:
        return {name: _read(get_args(wanted)[1], each) for name, each in value.items()}
    if not isinstance(value, wanted):
        raise TypeError(f"{value!r} is no {wanted.__name__}")
    return value
