"""Tenant ids: those that isolate tenants need one on every call, all others may have none (lambda.md §13.2)."""

from __future__ import annotations

import re

from bootstrap.wire import MAX_TENANT_ID
from rie.errors import ServiceError
from rie.model.function import PER_TENANT, Function

PATTERN = r"[a-zA-Z0-9\._:\/=+\-@ ]+"
_TENANT_ID = re.compile(PATTERN)


def check_tenant_id(text: str) -> None:
    """Raises ServiceError ValidationException for what is no tenant id."""
    if not text:
        constraint = "Member must have length greater than or equal to 1"
    elif len(text) > MAX_TENANT_ID:
        constraint = f"Member must have length less than or equal to {MAX_TENANT_ID}"
    elif not _TENANT_ID.fullmatch(text):
        constraint = f"Member must satisfy regular expression pattern: {PATTERN}"
    else:
        return
    raise ServiceError(
        "ValidationException",
        f"1 validation error detected: Value '{text}' at 'tenantId' failed to satisfy constraint: {constraint}",
    )


def check_tenancy(function: Function, tenant_id: str | None) -> None:
    """Raises ServiceError InvalidParameterValueException if a tenant id is missing, or given for nothing."""
    if (function.tenancy_mode == PER_TENANT) == (tenant_id is not None):
        return
    if tenant_id is None:
        text = (
            "The invoked function is enabled with tenancy configuration. "
            "Add a valid tenant ID in your request and try again."
        )
    else:
        text = (
            "The invoked function is not enabled with tenancy configuration. "
            "Remove the tenant ID from your request and try again."
        )
    raise ServiceError("InvalidParameterValueException", text)
