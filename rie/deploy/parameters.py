"""Parameters of a template: what was given for them, or their defaults, held against what the template allows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def values_of(declared: Mapping[str, Any], given: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The value of each parameter, and what is wrong: missing, unknown or not allowed."""
    problems = [f"parameter {name}: the template has none of this name" for name in sorted(given.keys() - declared)]
    values: dict[str, Any] = {}
    for name, about in declared.items():
        about = about if isinstance(about, dict) else {}
        if name not in given and "Default" not in about:
            problems.append(f"parameter {name}: a value is needed, --parameter {name}=VALUE")
            continue
        text = given.get(name, about.get("Default"))
        text = ("true" if text else "false") if isinstance(text, bool) else str(text)
        if why := _refused(text, about):
            problems.append(f"parameter {name}: {about.get('ConstraintDescription') or why}")
        is_list = str(about.get("Type", "")) == "CommaDelimitedList" or str(about.get("Type", "")).startswith("List<")
        values[name] = [each.strip() for each in text.split(",")] if is_list else text
    return values, problems


def _refused(text: str, about: Mapping[str, Any]) -> str | None:
    """Why a value is not allowed."""
    kind = str(about.get("Type", "String"))
    shown = "its value" if str(about.get("NoEcho", "")).lower() == "true" else repr(text)
    if kind.startswith("AWS::SSM::"):
        return f"type {kind} is not supported: there is no parameter store; use String and --parameter"
    if kind == "Number" and not _is_number(text):
        return f"{shown} is no number"
    if "AllowedValues" in about and text not in [_plain(each) for each in about["AllowedValues"]]:
        return f"{shown} is none of {', '.join(map(_plain, about['AllowedValues']))}"
    if "AllowedPattern" in about and not re.fullmatch(str(about["AllowedPattern"]), text):
        return f"{shown} does not match {about['AllowedPattern']}"
    size, what = (float(text), "is") if kind == "Number" else (float(len(text)), "has a length of")
    least, most = ("MinValue", "MaxValue") if kind == "Number" else ("MinLength", "MaxLength")
    if (least in about and size < float(about[least])) or (most in about and size > float(about[most])):
        return f"{shown} {what} {size:g}, and {about.get(least, 'any')} to {about.get(most, 'any')} is allowed"
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
