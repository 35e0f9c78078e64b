"""Names and ARNs of functions: every form that a caller may write, read into a key and a qualifier."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Protocol

from rie.errors import ServiceError
from rie.model.function import FunctionKey

FUNCTION_NAME_PATTERN = (
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?"
    r"([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
)
"""`NamespacedFunctionName` of the service model, as error texts print it; a test keeps the two equal."""

QUALIFIER_PATTERN = r"\$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+"
"""`NumericLatestPublishedOrAliasQualifier` of the service model, likewise."""

MAX_FUNCTION_NAME = 256  # NamespacedFunctionName; names over 64 characters are well formed, no function has one
MAX_QUALIFIER = 128
_REMEMBERED = 4096  # distinct (name, qualifier) pairs; a node serves fewer functions than this

_REFERENCE = re.compile(
    r"(?:arn:(?:aws[a-zA-Z-]*)?:lambda:)?"
    r"(?:(?P<region>(?:eusc-)?[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d):)?"
    r"(?:(?P<account>\d{12}):)?"
    r"(?:function:)?"
    r"(?P<name>[a-zA-Z0-9-_.]+)"
    r"(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9-_]+))?",
    re.ASCII,
)
_QUALIFIER = re.compile(QUALIFIER_PATTERN, re.ASCII)


class Scope(Protocol):
    """Where a request stands: what names without an account or a region are completed with."""

    @property
    def account(self) -> str:
        """Twelve digits."""

    @property
    def region(self) -> str:
        """`us-east-1`."""


def parse_function_reference(name: str, qualifier: str | None, context: Scope) -> tuple[FunctionKey, str | None]:
    """Read a FunctionName parameter, with the Qualifier parameter beside it (lambda.md §0.3).

    `name` is a bare name, `name:qualifier`, `[<account>:]function:<name>[:<qualifier>]` or an ARN, qualified or not.
    The qualifier that comes back is the one given either way, None if there is none. Remembers what it has read, so
    that the invoke path pays for a dictionary look-up.

    Raises ServiceError: ValidationException for what is no name, ResourceNotFoundException for another region,
    AccessDeniedException for another account, InvalidParameterValueException if two qualifiers disagree.
    """
    key, derived = _parse(name, qualifier, context.account, context.region)
    if key.account != context.account:
        raise ServiceError(
            "AccessDeniedException",
            f"Functions of account {key.account} are not accessible to account {context.account}.",
        )
    return key, derived


def locate(name: str, qualifier: str | None, context: Scope) -> tuple[FunctionKey, str | None]:
    """As `parse_function_reference`, also for functions of other accounts: the caller must find out who may."""
    return _parse(name, qualifier, context.account, context.region)


def function_arn(key: FunctionKey, qualifier: str | None) -> str:
    """The ARN as it was addressed: unqualified if no qualifier was asked for."""
    return f"{key.arn}:{qualifier}" if qualifier else key.arn


@lru_cache(maxsize=_REMEMBERED)
def _parse(name: str, qualifier: str | None, account: str, region: str) -> tuple[FunctionKey, str | None]:
    found = _REFERENCE.fullmatch(name)
    if found is None or len(name) > MAX_FUNCTION_NAME:
        raise _invalid(name, "functionName", MAX_FUNCTION_NAME, FUNCTION_NAME_PATTERN)
    if qualifier is not None and (len(qualifier) > MAX_QUALIFIER or not _QUALIFIER.fullmatch(qualifier)):
        raise _invalid(qualifier, "qualifier", MAX_QUALIFIER, QUALIFIER_PATTERN)
    if found["region"] not in (None, region):
        raise ServiceError(
            "ResourceNotFoundException",
            f"Functions from '{found['region']}' are not reachable in this region ('{region}')",
        )
    derived = found["qualifier"]
    if derived is not None and qualifier is not None and derived != qualifier:
        raise ServiceError(
            "InvalidParameterValueException",
            "The derived qualifier from the function name does not match the specified qualifier.",
        )
    return FunctionKey(found["account"] or account, region, found["name"]), qualifier if derived is None else derived


def _invalid(value: str, path: str, longest: int, pattern: str) -> ServiceError:
    """The front end's error for one string (lambda.md §0.2); rie.api.validate has the whole grammar."""
    if len(value) > longest:
        constraint = f"Member must have length less than or equal to {longest}"
    else:
        constraint = f"Member must satisfy regular expression pattern: {pattern}"
    return ServiceError(
        "ValidationException",
        f"1 validation error detected: Value '{value}' at '{path}' failed to satisfy constraint: {constraint}",
    )
