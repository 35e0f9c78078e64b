"""Error answers about functions, in the service's own words (lambda.md §0.3, §1)."""

from __future__ import annotations

from rie.arn import function_arn
from rie.errors import ServiceError
from rie.model.function import FunctionKey


def refused(message: str) -> ServiceError:
    """A rule of the service is broken (400). The caller can't mend it by trying again."""
    return ServiceError("InvalidParameterValueException", message)


def not_found(key: FunctionKey, qualifier: str | None = None) -> ServiceError:
    """No such function, version or alias (404); the ARN is printed as it was asked for."""
    return ServiceError("ResourceNotFoundException", f"Function not found: {function_arn(key, qualifier)}")


def alias_not_found(key: FunctionKey, name: str) -> ServiceError:
    """No such alias (404), as its readers and policies are told."""
    return ServiceError("ResourceNotFoundException", f"Cannot find alias arn: {function_arn(key, name)}")


def name_taken(name: str) -> ServiceError:
    """The function exists (409). The grammar is the service's."""
    return ServiceError("ResourceConflictException", f"Function already exist: {name}")


def pending(state: str) -> ServiceError:
    """The function can't be changed or invoked yet (409)."""
    return ServiceError(
        "ResourceConflictException",
        f"The operation cannot be performed at this time. The function is currently in the following state: {state}",
    )


def update_in_progress(key: FunctionKey) -> ServiceError:
    """The previous update is still being deployed (409)."""
    return ServiceError(
        "ResourceConflictException",
        f"The operation cannot be performed at this time. An update is in progress for resource: {key.arn}",
    )


def stale_revision() -> ServiceError:
    """RevisionId is not the newest (412)."""
    return ServiceError(
        "PreconditionFailedException",
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
    )
