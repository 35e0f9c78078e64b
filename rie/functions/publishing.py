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
    is_latest_published: bool = False  # it becomes $LATEST.PUBLISHED


@dataclass(frozen=True, slots=True)
class Publication:
    """What publishing comes to: the version, whether it is a new one, and $LATEST as it is afterwards."""

    version: Function
    is_new: bool
    latest: Function


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
    latest: Function, last: Function | None, new: NewVersion, revision_ids: tuple[str, str], at: str
) -> Publication:
    """The version that $LATEST makes: a new one, unless it is still what `last`, the newest one, was made from.

    A version of what is still being deployed is Pending, and ends with that deployment; one that takes a snapshot is
    Pending until that is there. `revision_ids` are the
    version's and $LATEST's; `at` is as the API spells it.
    """
    is_new = last is None or _content(last) != _content(latest)
    version = _frozen(latest, new, revision_ids[0], at) if is_new or last is None else last
    after = replace(
        latest,
        last_version=max(latest.last_version, int(version.version)),
        latest_published=version.version if new.is_latest_published else latest.latest_published,
    )
    return Publication(version, is_new, latest if after == latest else replace(after, revision_id=revision_ids[1]))


def _frozen(latest: Function, new: NewVersion, revision_id: str, at: str) -> Function:
    version = replace(
        latest,
        version=str(latest.last_version + 1),
        revision_id=revision_id,
        last_modified=at,
        description=latest.description if new.description is None else new.description,
        published_description=latest.description,
        tags={},
        last_version=0,
        latest_published="",
    )
    if not (latest.is_pending or latest.is_updating or version.takes_snapshot):
        return version
    return replace(
        version,
        serving=None,
        state="Pending",
        state_reason=CREATING,
        state_reason_code="Creating",
        last_update_status=None,
        last_update_status_reason=None,
        last_update_status_reason_code=None,
    )


def _content(function: Function) -> Function:
    """What of a function is frozen in a version; all else blank, so that a field nobody thought of here counts.

    The image of a zip function is its runtime's, looked up at the deployment, and no part of what was published.
    """
    configuration = function.configuration
    image = None if configuration.is_zip else configuration.image
    return replace(
        function,
        version="",
        configuration=replace(configuration, configuration_id="", image=image),
        serving=None,
        description=function.description if function.version == LATEST else function.published_description,
        published_description="",
        last_version=0,
        latest_published="",
        is_optimised=False,
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
