"""Values of a template: Ref, Fn::… and conditions, resolved without touching anything.

What is not known before a resource is there (its ARN) is `Unknown`, and so is everything that is made of it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rie.errors import TemplateInvalid

NO_VALUE: Any = object()
_VARIABLE = re.compile(r"\$\{(!?)([^}]*)\}")


@dataclass(frozen=True, slots=True)
class Unknown:
    """The value of a resource that isn't there yet."""

    logical_id: str


@dataclass(frozen=True)
class Scope:
    """What names mean. `values`: parameters and pseudo parameters; `refs` and `attributes` those of resources.

    `resources`: every logical id that will exist; `known` the attributes that each will have. Of one that is missing in
    `refs`, everything is Unknown.
    """

    values: Mapping[str, Any]
    mappings: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)
    resources: frozenset[str] = frozenset()
    known: Mapping[str, frozenset[str]] = field(default_factory=dict)
    refs: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def resolve(self, value: Any) -> Any:
        """The value with every intrinsic replaced; members that are AWS::NoValue are left out.

        Raises TemplateInvalid.
        """
        if isinstance(value, list):
            return [each for each in map(self.resolve, value) if each is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        name = next(iter(value), "")
        if len(value) == 1 and (name in ("Ref", "Condition") or name.startswith("Fn::")):
            known = _FUNCTIONS.get(name)
            # `Condition` is a member of IAM's policies too, where it holds a mapping.
            if known is not None and (name != "Condition" or isinstance(value[name], str)):
                return known(self, value[name])
            if name != "Condition":
                raise TemplateInvalid(f"{name} is not supported")
        resolved = {key: self.resolve(each) for key, each in value.items()}
        return {key: each for key, each in resolved.items() if each is not NO_VALUE}

    def holds(self, condition: str, *, within: tuple[str, ...] = ()) -> bool:
        """Whether a named condition is true."""
        if condition not in self.conditions:
            raise TemplateInvalid(f"condition {condition} is not defined")
        if condition in within:
            raise TemplateInvalid(f"condition {condition} refers to itself")
        return self._test(self.conditions[condition], (*within, condition))

    def ref(self, name: str) -> Any:
        """What `Ref: name` is."""
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in self.values:
            return self.values[name]
        if name in self.refs:
            return self.refs[name]
        if name in self.resources:
            return Unknown(name)
        raise TemplateInvalid(f"Ref {name}: there is no such parameter or resource")

    def attribute(self, logical_id: str, name: str) -> Any:
        """What `Fn::GetAtt: [logical_id, name]` is."""
        if logical_id not in self.resources:
            raise TemplateInvalid(f"Fn::GetAtt {logical_id}.{name}: there is no such resource")
        names = self.known.get(logical_id)
        if names is not None and name not in names:
            known = ", ".join(sorted(names)) or "none"
            raise TemplateInvalid(f"Fn::GetAtt {logical_id}.{name}: it has no such attribute (it has {known})")
        attributes = self.attributes.get(logical_id, {}) if logical_id in self.refs else {}
        return attributes.get(name, Unknown(logical_id))

    def _test(self, expression: Any, within: tuple[str, ...]) -> bool:
        if not isinstance(expression, dict) or len(expression) != 1:
            raise TemplateInvalid(f"a condition is one function, not {expression!r}")
        name, operand = next(iter(expression.items()))
        if name == "Condition":
            return self.holds(operand, within=within)
        if not isinstance(operand, list):
            raise TemplateInvalid(f"{name} wants a list")
        if name == "Fn::Equals" and len(operand) == 2:
            return _text(self.resolve(operand[0])) == _text(self.resolve(operand[1]))
        if name == "Fn::And":
            return all(self._test(each, within) for each in operand)
        if name == "Fn::Or":
            return any(self._test(each, within) for each in operand)
        if name == "Fn::Not" and len(operand) == 1:
            return not self._test(operand[0], within)
        raise TemplateInvalid(f"{name} is no condition, or has the wrong number of operands")


def has_unknown(value: Any) -> bool:
    """Whether a resolved value holds something that isn't known yet."""
    if isinstance(value, dict):
        return any(map(has_unknown, value.values()))
    if isinstance(value, list):
        return any(map(has_unknown, value))
    return isinstance(value, Unknown)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list) or value is None:
        raise TemplateInvalid(f"a text is wanted, not {value!r}")
    return str(value)


def _unknown_in(values: list[Any]) -> Unknown | None:
    return next((each for each in values if isinstance(each, Unknown)), None)


def _operands(name: str, value: Any, count: int) -> list[Any]:
    if not isinstance(value, list) or len(value) != count:
        raise TemplateInvalid(f"{name} wants a list of {count}")
    return value


def _get_att(scope: Scope, value: Any) -> Any:
    parts = value.split(".", 1) if isinstance(value, str) else _operands("Fn::GetAtt", value, 2)
    if len(parts) != 2:
        raise TemplateInvalid(f"Fn::GetAtt {value}: resource.attribute is wanted")
    return scope.attribute(parts[0], scope.resolve(parts[1]))


def _sub(scope: Scope, value: Any) -> Any:
    text, own = (value, {}) if isinstance(value, str) else _operands("Fn::Sub", value, 2)
    own = scope.resolve(own)
    found: list[Any] = []

    def replace(match: re.Match[str]) -> str:
        literal, name = match[1], match[2].strip()
        if literal:
            return f"${{{match[2]}}}"
        if name in own:
            found.append(own[name])
        elif "." in name:
            found.append(scope.attribute(*name.split(".", 1)))
        else:
            found.append(scope.ref(name))
        return "" if isinstance(found[-1], Unknown) else _text(found[-1])

    replaced = _VARIABLE.sub(replace, text)
    return _unknown_in(found) or replaced


def _join(scope: Scope, value: Any) -> Any:
    separator, parts = _operands("Fn::Join", value, 2)
    resolved = scope.resolve(parts)
    if isinstance(resolved, Unknown):
        return resolved
    if not isinstance(resolved, list):
        raise TemplateInvalid("Fn::Join wants a list to join")
    return _unknown_in(resolved) or _text(separator).join(map(_text, resolved))


def _split(scope: Scope, value: Any) -> Any:
    separator, source = _operands("Fn::Split", value, 2)
    text = scope.resolve(source)
    return text if isinstance(text, Unknown) else _text(text).split(separator)


def _select(scope: Scope, value: Any) -> Any:
    index, items = (scope.resolve(each) for each in _operands("Fn::Select", value, 2))
    if isinstance(items, Unknown):
        return items
    try:
        place = int(index)
        if place < 0:
            raise IndexError
        return items[place]
    except (IndexError, ValueError, TypeError):
        raise TemplateInvalid(f"Fn::Select: there is no element {index} in {items}") from None


def _if(scope: Scope, value: Any) -> Any:
    condition, yes, no = _operands("Fn::If", value, 3)
    return scope.resolve(yes if scope.holds(condition) else no)


def _find_in_map(scope: Scope, value: Any) -> Any:
    keys = [scope.resolve(each) for each in _operands("Fn::FindInMap", value, 3)]
    found: Any = scope.mappings
    for key in keys:
        if not isinstance(found, Mapping) or str(key) not in found:
            raise TemplateInvalid(f"Fn::FindInMap: there is no {'.'.join(map(str, keys))}")
        found = found[str(key)]
    return found


def _base64(scope: Scope, value: Any) -> Any:
    text = scope.resolve(value)
    return text if isinstance(text, Unknown) else base64.b64encode(_text(text).encode()).decode()


def _import_value(scope: Scope, value: Any) -> Any:
    raise TemplateInvalid("Fn::ImportValue is not supported: stacks share nothing here; pass the value as a parameter")


def _truth(scope: Scope, value: Any) -> Any:
    return scope.holds(value)


def _tested(name: str) -> Callable[[Scope, Any], Any]:
    return lambda scope, value: scope._test({name: value}, ())


_FUNCTIONS: Mapping[str, Callable[[Scope, Any], Any]] = {
    "Ref": lambda scope, value: scope.ref(value),
    "Condition": _truth,
    "Fn::Base64": _base64,
    "Fn::FindInMap": _find_in_map,
    "Fn::GetAtt": _get_att,
    "Fn::If": _if,
    "Fn::ImportValue": _import_value,
    "Fn::Join": _join,
    "Fn::Select": _select,
    "Fn::Split": _split,
    "Fn::Sub": _sub,
    **{name: _tested(name) for name in ("Fn::And", "Fn::Equals", "Fn::Not", "Fn::Or")},
}
