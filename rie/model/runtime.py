"""When a version's runtime is updated."""

from __future__ import annotations

from dataclasses import dataclass

from rie.model.record import Kind

AUTO, FUNCTION_UPDATE, MANUAL = "Auto", "FunctionUpdate", "Manual"


@dataclass(frozen=True, slots=True)
class RuntimeManagement:
    """Of a version, at its number or "$LATEST"; without one it is "Auto". `version_arn` goes with "Manual" alone."""

    update_on: str
    version_arn: str = ""


RUNTIME_MANAGEMENT = Kind("runtime-management", RuntimeManagement)
