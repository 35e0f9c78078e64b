"""What needs what, and so what is made first."""

from __future__ import annotations

import graphlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from rie.errors import TemplateInvalid

_VARIABLE = re.compile(r"\$\{([^!}][^}]*)\}")


def needs(resource: Mapping[str, Any], resources: frozenset[str]) -> frozenset[str]:
    """The logical ids that a resource refers to or depends on, of those that there are."""
    depends = resource.get("DependsOn") or []
    named = {depends} if isinstance(depends, str) else set(depends)
    return frozenset((named | set(_names(resource.get("Properties", {})))) & resources)


def ordered(needed: Mapping[str, frozenset[str]]) -> list[str]:
    """The logical ids, each after what it needs, else as they are written. Raises TemplateInvalid for a circle."""
    sorter = graphlib.TopologicalSorter(needed)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        raise TemplateInvalid(f"cannot order the resources: {' needs '.join(reversed(error.args[1]))}") from None
    place = {logical_id: number for number, logical_id in enumerate(needed)}
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=lambda logical_id: place[logical_id])
        order.extend(ready)
        sorter.done(*ready)
    return order


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _names(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key == "Ref" and isinstance(each, str):
                yield each
            elif key == "Fn::GetAtt":
                yield each.split(".")[0] if isinstance(each, str) else str(each[0])
            elif key == "Fn::Sub":
                yield from _substituted(each)
            else:
                yield from _names(each)


def _substituted(value: Any) -> Iterator[str]:
    text, own = (value, {}) if isinstance(value, str) else (value[0], value[1])
    for match in _VARIABLE.finditer(text):
        name = match[1].strip()
        if name not in own:
            yield name.split(".")[0]
    yield from _names(own)
