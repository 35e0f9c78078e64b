"""Filter patterns of event source mappings: checked when they are given, matched against records; pure (§6.4)."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

MAX_PATTERN = 4_096  # characters, AWS limit

Json = Any
Rule = Callable[[Json], bool]
"""Whether a present value meets one element of a pattern's list."""


class InvalidPattern(ValueError):
    """A pattern that can't be one."""


def check(pattern: str) -> None:
    """Raises InvalidPattern for what is no JSON object of lists and objects with known operators."""
    if len(pattern) > MAX_PATTERN:
        raise InvalidPattern("it is too long")
    _compile(parse(pattern))


def parse(pattern: str) -> dict[str, Json]:
    """The pattern as an object. Raises InvalidPattern."""
    try:
        parsed = json.loads(pattern)
    except ValueError as error:
        raise InvalidPattern(str(error)) from error
    if not isinstance(parsed, dict):
        raise InvalidPattern("it is no object")
    return parsed


class Filter:
    """Several patterns, of which one must match; none at all lets everything through.

    `payload` names the member of a record that its patterns know as JSON: "body" of SQS, "data" of Kinesis; None where
    patterns look at the record as it is.
    """

    def __init__(self, patterns: Iterable[str], payload: str | None) -> None:
        self._patterns = [parse(pattern) for pattern in patterns]
        self._matchers = [_compile(pattern) for pattern in self._patterns]
        self._payload = payload

    def __bool__(self) -> bool:
        return bool(self._matchers)

    def lets_through(self, record: Mapping[str, Json]) -> bool:
        """`record` has its payload as text, which is read as JSON where a pattern looks inside."""
        if not self._matchers:
            return True
        return any(
            matches(self._seen_by(pattern, record))
            for pattern, matches in zip(self._patterns, self._matchers, strict=True)
        )

    def _seen_by(self, pattern: Mapping[str, Json], record: Mapping[str, Json]) -> Mapping[str, Json]:
        """The record as a pattern sees it; without its payload if the two have different formats (§6.4)."""
        name = self._payload
        if name is None or name not in pattern:
            return record
        text = record.get(name)
        try:
            parsed = json.loads(text) if isinstance(text, str) else text
        except ValueError:
            parsed = text
        wants_json = isinstance(pattern[name], dict)
        is_json = isinstance(parsed, dict)
        if wants_json != is_json:
            return {key: value for key, value in record.items() if key != name}
        return {**record, name: parsed if wants_json else text}


def _compile(pattern: Json) -> Callable[[Mapping[str, Json]], bool]:
    """Every key must match; `$or` is a list of patterns of which one must."""
    parts: list[Callable[[Mapping[str, Json]], bool]] = []
    if not pattern:
        raise InvalidPattern("an object of it is empty")
    for key, wanted in pattern.items():
        if key == "$or" and isinstance(wanted, list) and all(isinstance(each, dict) for each in wanted) and wanted:
            parts.append(_either([_compile(each) for each in wanted]))
        elif isinstance(wanted, dict):
            parts.append(_nested(key, _compile(wanted)))
        elif isinstance(wanted, list) and wanted:
            parts.append(_leaf(key, [_rule(each) for each in wanted]))
        else:
            raise InvalidPattern(f"{key!r} must have a list that is not empty, or an object")
    return lambda value: all(part(value) for part in parts)


def _either(choices: list[Callable[[Mapping[str, Json]], bool]]) -> Callable[[Mapping[str, Json]], bool]:
    return lambda value: any(choice(value) for choice in choices)


def _nested(key: str, inner: Callable[[Mapping[str, Json]], bool]) -> Callable[[Mapping[str, Json]], bool]:
    def matches(value: Mapping[str, Json]) -> bool:
        child = value.get(key)
        if isinstance(child, list):  # one of a list's objects is enough
            return any(inner(each) for each in child if isinstance(each, dict))
        return inner(child if isinstance(child, dict) else {})

    return matches


_ABSENT = object()


def _leaf(key: str, rules: list[Rule]) -> Callable[[Mapping[str, Json]], bool]:
    def matches(value: Mapping[str, Json]) -> bool:
        found = value.get(key, _ABSENT)
        candidates = found if isinstance(found, list) and found else [found]
        return any(rule(candidate) for candidate in candidates for rule in rules)

    return matches


def _rule(wanted: Json) -> Rule:
    if isinstance(wanted, dict):
        if len(wanted) != 1:
            raise InvalidPattern("an operator stands alone in its object")
        ((name, operand),) = wanted.items()
        maker = _OPERATORS.get(name)
        if maker is None:
            raise InvalidPattern(f"there is no operator {name!r}")
        return maker(operand)
    if isinstance(wanted, list):
        raise InvalidPattern("a list holds no lists")
    return lambda value: _equal(value, wanted)


def _equal(value: Json, wanted: Json) -> bool:
    """Numbers by value; true is not 1."""
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    return (type(value) is type(wanted) and value == wanted) or (_numbers(value, wanted) and value == wanted)


def _numbers(*values: Json) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _text(operand: Json) -> str:
    if not isinstance(operand, str):
        raise InvalidPattern("its operand is no string")
    return operand


def _prefix(operand: Json) -> Rule:
    if isinstance(operand, dict) and list(operand) == ["equals-ignore-case"]:
        folded = _text(operand["equals-ignore-case"]).casefold()
        return lambda value: isinstance(value, str) and value.casefold().startswith(folded)
    start = _text(operand)
    return lambda value: isinstance(value, str) and value.startswith(start)


def _suffix(operand: Json) -> Rule:
    if isinstance(operand, dict) and list(operand) == ["equals-ignore-case"]:
        folded = _text(operand["equals-ignore-case"]).casefold()
        return lambda value: isinstance(value, str) and value.casefold().endswith(folded)
    end = _text(operand)
    return lambda value: isinstance(value, str) and value.endswith(end)


def _ignore_case(operand: Json) -> Rule:
    folded = _text(operand).casefold()
    return lambda value: isinstance(value, str) and value.casefold() == folded


def _anything_but(operand: Json) -> Rule:
    choices = operand if isinstance(operand, list) else [operand]
    if not choices:
        raise InvalidPattern("anything-but needs something")
    rules = [_rule(each) for each in choices]
    return lambda value: value is not _ABSENT and not any(rule(value) for rule in rules)


def _exists(operand: Json) -> Rule:
    if not isinstance(operand, bool):
        raise InvalidPattern("exists is true or false")

    def rule(value: Json) -> bool:
        return (value is not _ABSENT and not isinstance(value, dict)) is operand

    return rule


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "=": lambda value, bound: value == bound,
    "<": lambda value, bound: value < bound,
    "<=": lambda value, bound: value <= bound,
    ">": lambda value, bound: value > bound,
    ">=": lambda value, bound: value >= bound,
}


def _numeric(operand: Json) -> Rule:
    if not isinstance(operand, list) or not operand or len(operand) % 2:
        raise InvalidPattern("numeric takes pairs of a comparison and a number")
    pairs = list(zip(operand[::2], operand[1::2], strict=True))
    if not all(isinstance(sign, str) and sign in _COMPARISONS and _numbers(bound) for sign, bound in pairs):
        raise InvalidPattern("numeric takes pairs of a comparison and a number")

    def rule(value: Json) -> bool:
        return _numbers(value) and all(_COMPARISONS[sign](value, bound) for sign, bound in pairs)

    return rule


def _cidr(operand: Json) -> Rule:
    try:
        network = ipaddress.ip_network(_text(operand), strict=False)
    except ValueError as error:
        raise InvalidPattern(str(error)) from error

    def rule(value: Json) -> bool:
        try:
            return isinstance(value, str) and ipaddress.ip_address(value) in network
        except ValueError:
            return False

    return rule


_OPERATORS: dict[str, Callable[[Json], Rule]] = {
    "prefix": _prefix,
    "suffix": _suffix,
    "equals-ignore-case": _ignore_case,
    "anything-but": _anything_but,
    "exists": _exists,
    "numeric": _numeric,
    "cidr": _cidr,
}
