"""Conditions of policy statements: operators over the keys of a request; pure.

A key that the request lacks fails every operator but `Null`, the negated ones, and those with `IfExists`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rie.iam.globs import arn_matches, matches

Context = Mapping[str, str | Sequence[str]]
"""What is known of a request, by key in lower case ("aws:sourcearn")."""

_VARIABLE = re.compile(r"\$\{([^},]+)(?:,\s*'([^']*)')?\}")
_LITERALS = {"*": "*", "?": "?", "$": "$"}
_MARK = "\ue000"  # takes the place of a wildcard that a variable brought: it stands for itself
_ESCAPES = {"*": f"{_MARK}0", "?": f"{_MARK}1"}


class PolicyInvalid(ValueError):
    """A policy document can't be read; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One key of one operator: `operator` without its prefix and suffix, `quantifier` "", "any" or "all"."""

    operator: str
    key: str
    values: tuple[str, ...]
    quantifier: str = ""
    is_optional: bool = False

    def holds(self, context: Context) -> bool:
        """Whether the request meets it."""
        given = context.get(self.key)
        if self.operator == "null":
            return any((given is None) == (value.lower() == "true") for value in self.values)
        compare, is_negated = _OPERATORS[self.operator]
        if given is None:
            return self.is_optional or self.quantifier == "all" or (is_negated and not self.quantifier)
        wanted = [expand(value, context) for value in self.values]

        def meets(value: str) -> bool:
            return any(compare(pattern, _escaped(value)) for pattern in wanted) != is_negated

        each = [given] if isinstance(given, str) else list(given)
        if self.quantifier == "all" or (is_negated and not self.quantifier):
            return all(map(meets, each))
        return any(map(meets, each))


def read_conditions(block: object) -> tuple[Condition, ...]:
    """The conditions of a statement's Condition member. Raises PolicyInvalid."""
    if not isinstance(block, Mapping):
        raise PolicyInvalid("Condition is not an object")
    return tuple(
        _condition(operator, key, values)
        for operator, keys in block.items()
        for key, values in _members(operator, keys).items()
    )


def expand(text: str, context: Context) -> str:
    """A value with its policy variables filled in: `${aws:username}`, `${aws:username, 'nobody'}`, `${*}`."""
    if "${" not in text:
        return text

    def fill(found: re.Match[str]) -> str:
        name, default = found[1].strip(), found[2]
        if name in _LITERALS:
            return _escaped(_LITERALS[name])
        value = context.get(name.lower())
        if isinstance(value, str):
            return _escaped(value)
        return found[0] if default is None else _escaped(default)

    return _VARIABLE.sub(fill, text)


def plain_matches(pattern: str, text: str) -> bool:
    """As `globs.matches`, for a pattern that went through `expand`."""
    return matches(pattern, _escaped(text))


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(c, c) for c in text) if "*" in text or "?" in text else text


def _members(operator: str, keys: object) -> Mapping[str, object]:
    if not isinstance(keys, Mapping):
        raise PolicyInvalid(f"Condition {operator} is not an object")
    return keys


def _condition(operator: str, key: str, values: object) -> Condition:
    prefix, _, bare = operator.rpartition(":")
    quantifier = {"": "", "forallvalues": "all", "foranyvalue": "any"}.get(prefix.lower())
    name = bare.lower()
    is_optional = name.endswith("ifexists")
    name = name.removesuffix("ifexists")
    if quantifier is None or (name not in _OPERATORS and name != "null"):
        raise PolicyInvalid(f"there is no condition operator {operator}")
    listed = list(values) if isinstance(values, list | tuple) else [values]
    if not all(isinstance(value, str | int | float | bool) for value in listed):
        raise PolicyInvalid(f"the values of condition key {key} are not texts")
    texts = tuple(str(v).lower() if isinstance(v, bool) else str(v) for v in listed)
    return Condition(name, key.lower(), texts, quantifier, is_optional)


def _number(compare: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    def holds(wanted: str, given: str) -> bool:
        try:
            return compare(float(given), float(wanted))
        except ValueError:
            return False

    return holds


def _date(compare: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    def holds(wanted: str, given: str) -> bool:
        try:
            return compare(_instant(given), _instant(wanted))
        except ValueError:
            return False

    return holds


def _instant(text: str) -> float:
    """Epoch seconds of an ISO-8601 date, or of a number that is them already."""
    try:
        return float(text)
    except ValueError:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _address(wanted: str, given: str) -> bool:
    try:
        return ipaddress.ip_address(given) in ipaddress.ip_network(wanted, strict=False)
    except ValueError:
        return False


def _equals(wanted: str, given: str) -> bool:
    return _unstarred(wanted) == given


def _unstarred(text: str) -> str:
    """In an operator without wildcards, `*` and `?` of the policy stand for themselves."""
    return _escaped(text)


def _equals_ignoring_case(wanted: str, given: str) -> bool:
    return _unstarred(wanted).lower() == given.lower()


_OPERATORS: Mapping[str, tuple[Callable[[str, str], bool], bool]] = {
    "stringequals": (_equals, False),
    "stringnotequals": (_equals, True),
    "stringequalsignorecase": (_equals_ignoring_case, False),
    "stringnotequalsignorecase": (_equals_ignoring_case, True),
    "stringlike": (matches, False),
    "stringnotlike": (matches, True),
    "arnequals": (arn_matches, False),
    "arnnotequals": (arn_matches, True),
    "arnlike": (arn_matches, False),
    "arnnotlike": (arn_matches, True),
    "bool": (_equals_ignoring_case, False),
    "binaryequals": (_equals, False),
    "ipaddress": (_address, False),
    "notipaddress": (_address, True),
    "numericequals": (_number(lambda given, wanted: given == wanted), False),
    "numericnotequals": (_number(lambda given, wanted: given == wanted), True),
    "numericlessthan": (_number(lambda given, wanted: given < wanted), False),
    "numericlessthanequals": (_number(lambda given, wanted: given <= wanted), False),
    "numericgreaterthan": (_number(lambda given, wanted: given > wanted), False),
    "numericgreaterthanequals": (_number(lambda given, wanted: given >= wanted), False),
    "dateequals": (_date(lambda given, wanted: given == wanted), False),
    "datenotequals": (_date(lambda given, wanted: given == wanted), True),
    "datelessthan": (_date(lambda given, wanted: given < wanted), False),
    "datelessthanequals": (_date(lambda given, wanted: given <= wanted), False),
    "dategreaterthan": (_date(lambda given, wanted: given > wanted), False),
    "dategreaterthanequals": (_date(lambda given, wanted: given >= wanted), False),
}
