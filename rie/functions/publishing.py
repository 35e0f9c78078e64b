"""Versions as $LATEST makes them: what is frozen, what counts as a change, what may be published; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rie.errors import ServiceError
from rie.functions import faults
from rie.functions.changes import CREATING
from rie.model.function import LATEST, Function, FunctionKey


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version to be published. `description` None takes $LATEST's; the other two must be $LATEST's, if given."""

    key: FunctionKey
    description: str | None = None
    code_sha256: str | None = None
    revision_id: str | None = None


@dataclass(frozen=True, slots=True)
class Publication:
    """What publishing comes to: `version`, and $LATEST as it is afterwards, if that is a new one."""

    version: Function
    latest: Function | None


def check(latest: Function, new: NewVersion) -> None:
    """Raises ServiceError if this can't become a version (lambda.md §4.1)."""
    sha256 = latest.configuration.code_sha256
    if new.code_sha256 not in (None, sha256):
        raise faults.refused(
            f"CodeSHA256 ({new.code_sha256}) is different from current CodeSHA256 in $LATEST ({sha256}). "
            "Please try again with the CodeSHA256 in $LATEST."
        )
    if latest.last_update_status == "Failed":
        # Its code could not be deployed: a version of it could never be invoked, and never be mended.
        raise ServiceError(
            "ResourceConflictException",
            "The operation cannot be performed at this time. The last update of the function failed: "
            f"{latest.last_update_status_reason}",
        )


def publish(
    latest: Function, last: Function | None, description: str | None, revision_ids: tuple[str, str], at: str
) -> Publication:
    """The version that $LATEST makes: a new one, unless it is still what `last`, the newest one, was made from.

    A version of what is still being deployed is Pending, and ends with that deployment. `revision_ids` are the
    version's and $LATEST's; `at` is as the API spells it.
    """
    if last is not None and _content(last) == _content(latest):
        return Publication(last, None)
    number = latest.last_version + 1
    version = replace(
        latest,
        version=str(number),
        revision_id=revision_ids[0],
        last_modified=at,
        description=latest.description if description is None else description,
        published_description=latest.description,
        tags={},
        last_version=0,
    )
    if latest.is_pending or latest.is_updating:
        version = replace(
            version,
            serving=None,
            state="Pending",
            state_reason=CREATING,
            state_reason_code="Creating",
            last_update_status=None,
            last_update_status_reason=None,
            last_update_status_reason_code=None,
        )
    return Publication(version, replace(latest, last_version=number, revision_id=revision_ids[1]))


def _content(function: Function) -> Function:
    """What of a function is frozen in a version; all else blank, so that a field nobody thought of here counts."""
    return replace(
        function,
        version="",
        configuration=replace(function.configuration, configuration_id=""),
        serving=None,
        description=function.description if function.version == LATEST else function.published_description,
        published_description="",
        last_version=0,
        tags={},
        revision_id="",
        last_modified="",
        state="",
        state_reason=None,
        state_reason_code=None,
        last_update_status=None,
        last_update_status_reason=None,
        last_update_status_reason_code=None,
    )
