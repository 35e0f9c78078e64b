"""CloudWatch Logs' changes: groups and streams made, tagged and removed, events put (lambda.md §11.9)."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import replace

from rie.errors import ServiceError
from rie.logs.files import LogFiles
from rie.logs.groups import Group, Subscription, new_group
from rie.logs.patterns import Unsupported, matcher
from rie.logs.put import Event
from rie.logs.query import Params, View, find_group, no_stream
from rie.model.scope import Scope

# AWS limits of a batch of events, and of what is told beside it.
BATCH_BYTES, EVENT_OVERHEAD, BATCH_EVENTS = 1_048_576, 26, 10_000
DAY_MS = 86_400_000
TOO_OLD_MS, TOO_NEW_MS = 14 * DAY_MS, 7_200_000
MAX_TAGS = 50
RETENTIONS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400),
    *(545, 731, 1_096, 1_827, 2_192, 2_557, 2_922, 3_288, 3_653),
)
MAX_SUBSCRIPTIONS = 2  # of a group, AWS limit
_FUNCTION = re.compile(r"arn:aws[a-z-]*:lambda:[a-z0-9-]+:\d{12}:function:[\w-]+(:[\w$-]+)?", re.ASCII)
_STREAM = re.compile(r"[^:*]{1,512}")


class LogChanges:
    """Each method answers one operation; blocks. Raises ServiceError, OSError."""

    def __init__(self, files: LogFiles) -> None:
        self._files = files

    # -- groups -------------------------------------------------------------------------------------------------------

    def create_log_group(self, scope: Scope, params: Params) -> View:
        """Empty, until somebody writes."""
        name = params["logGroupName"]
        if self._files.group(name) is not None:
            raise ServiceError("ResourceAlreadyExistsException", "The specified log group already exists")
        group = replace(
            new_group(name),
            tags=_tags({}, params.get("tags", {})),
            log_class=params.get("logGroupClass", "STANDARD"),
            kms_key=params.get("kmsKeyId", ""),
        )
        self._files.keep_group(group)
        return {}

    def delete_log_group(self, scope: Scope, params: Params) -> View:
        """With all that is in it."""
        self._files.remove_group(find_group(self._files, params).name)
        return {}

    def put_retention_policy(self, scope: Scope, params: Params) -> View:
        """How many days a stream is kept after its last line."""
        days = params["retentionInDays"]
        if days not in RETENTIONS:
            raise _invalid(
                f"1 validation error detected: Value '{days}' at 'retentionInDays' failed to satisfy constraint: "
                f"Member must satisfy enum value set: {list(RETENTIONS)}"
            )
        self._files.keep_group(replace(find_group(self._files, params), retention_days=days))
        return {}

    def delete_retention_policy(self, scope: Scope, params: Params) -> View:
        """As the manager's settings say, again."""
        self._files.keep_group(replace(find_group(self._files, params), retention_days=0))
        return {}

    def associate_kms_key(self, scope: Scope, params: Params) -> View:
        """Kept and shown; nothing is encrypted with it."""
        self._files.keep_group(replace(self._keyed(params), kms_key=params["kmsKeyId"]))
        return {}

    def disassociate_kms_key(self, scope: Scope, params: Params) -> View:
        """Forget it."""
        self._files.keep_group(replace(self._keyed(params), kms_key=""))
        return {}

    def _keyed(self, params: Params) -> Group:
        return find_group(self._files, params, "logGroupName", "resourceIdentifier")

    # -- tags of groups -----------------------------------------------------------------------------------------------

    def tag_resource(self, scope: Scope, params: Params) -> View:
        """Add to them."""
        return self._tag(find_group(self._files, params, "resourceArn"), params)

    def untag_resource(self, scope: Scope, params: Params) -> View:
        """Take some away."""
        return self._untag(find_group(self._files, params, "resourceArn"), params["tagKeys"])

    def tag_log_group(self, scope: Scope, params: Params) -> View:
        """TagResource by the group's name, as older clients call it."""
        return self._tag(find_group(self._files, params), params)

    def untag_log_group(self, scope: Scope, params: Params) -> View:
        """UntagResource by the group's name."""
        return self._untag(find_group(self._files, params), params["tags"])

    def _tag(self, group: Group, params: Params) -> View:
        self._files.keep_group(replace(group, tags=_tags(group.tags, params["tags"])))
        return {}

    def _untag(self, group: Group, names: list[str]) -> View:
        kept = {name: value for name, value in group.tags.items() if name not in names}
        self._files.keep_group(replace(group, tags=kept))
        return {}

    # -- subscriptions ------------------------------------------------------------------------------------------------

    def put_subscription_filter(self, scope: Scope, params: Params) -> View:
        """A function hears of the lines that come from now on, or of others than before."""
        group, name, pattern = find_group(self._files, params), params["filterName"], params["filterPattern"]
        destination = params["destinationArn"]
        if not _FUNCTION.fullmatch(destination):
            raise _invalid(f"Of the destinations that filters have, only functions are available here: {destination}")
        try:
            matcher(pattern)
        except Unsupported as error:
            raise _invalid(f"Invalid filter pattern: {error}") from None
        others = tuple(each for each in group.subscriptions if each.name != name)
        if len(others) >= MAX_SUBSCRIPTIONS:
            raise ServiceError("LimitExceededException", "Resource limit exceeded.")
        new = Subscription(name, pattern, destination, int(time.time() * 1e3), params.get("distribution", ""))
        self._files.keep_group(replace(group, subscriptions=(*others, new)))
        return {}

    def delete_subscription_filter(self, scope: Scope, params: Params) -> View:
        """Its function hears nothing more."""
        group = find_group(self._files, params)
        kept = tuple(each for each in group.subscriptions if each.name != params["filterName"])
        if len(kept) == len(group.subscriptions):
            raise ServiceError("ResourceNotFoundException", "The specified subscription filter does not exist.")
        self._files.keep_group(replace(group, subscriptions=kept))
        return {}

    # -- streams ------------------------------------------------------------------------------------------------------

    def create_log_stream(self, scope: Scope, params: Params) -> View:
        """Empty, until somebody writes."""
        group, stream = find_group(self._files, params), params["logStreamName"]
        if not _STREAM.fullmatch(stream):
            raise _invalid(
                f"1 validation error detected: Value '{stream[:512]}' at 'logStreamName' failed to satisfy constraint: "
                "Member must satisfy regular expression pattern: [^:*]*"
            )
        if not self._files.create_stream(group.name, stream):
            raise ServiceError("ResourceAlreadyExistsException", "The specified log stream already exists")
        return {}

    def delete_log_stream(self, scope: Scope, params: Params) -> View:
        """With all that is in it."""
        group = find_group(self._files, params)
        if not self._files.remove_stream(group.name, params["logStreamName"]):
            raise no_stream()
        return {}

    def put_log_events(self, scope: Scope, params: Params) -> View:
        """Keep those whose instants the service takes; which it does not, the answer says."""
        group, stream = find_group(self._files, params), params["logStreamName"]
        if not self._files.has_stream(group.name, stream):
            raise no_stream()
        events = [(each["timestamp"], each["message"]) for each in params["logEvents"]]
        _check(events)
        first, last, rejected = _acceptable(events, group.retention_days, time.time() * 1e3)
        if first < last and self._files.put(group.name, stream, events[first:last]):
            raise ServiceError("ThrottlingException", "Rate exceeded")
        # Nobody needs the token any more; clients of before 2023 hand it back.
        told = {"rejectedLogEventsInfo": rejected} if rejected else {}
        return {"nextSequenceToken": f"{events[-1][0]:056d}", **told}


def _check(events: list[Event]) -> None:
    size = sum(len(message.encode("utf-8", "replace")) + EVENT_OVERHEAD for _, message in events)
    if size > BATCH_BYTES:
        raise _invalid(f"Upload too large: {size} bytes exceeds limit of {BATCH_BYTES}")
    if len(events) > BATCH_EVENTS:
        raise _invalid(
            "1 validation error detected: Value at 'logEvents' failed to satisfy constraint: "
            f"Member must have length less than or equal to {BATCH_EVENTS}"
        )
    instants = [at_ms for at_ms, _ in events]
    if instants != sorted(instants):
        raise _invalid("Log events in a single PutLogEvents request must be in chronological order.")
    if instants[-1] - instants[0] > DAY_MS:
        raise _invalid("The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")


def _acceptable(events: list[Event], retention_days: int, now_ms: float) -> tuple[int, int, View]:
    """Which events are kept, from the first to before the last, and what is said of the others."""
    too_old_ms, expired_ms = now_ms - TOO_OLD_MS, now_ms - retention_days * DAY_MS
    too_old = sum(at_ms < too_old_ms for at_ms, _ in events)
    expired = sum(at_ms < expired_ms for at_ms, _ in events) if retention_days else 0
    last = sum(at_ms <= now_ms + TOO_NEW_MS for at_ms, _ in events)
    rejected = {
        "tooOldLogEventEndIndex": too_old,
        "expiredLogEventEndIndex": expired,
        "tooNewLogEventStartIndex": last if last < len(events) else 0,
    }
    given = {name: index for name, index in rejected.items() if index}
    if last == 0:  # the first of them already
        given["tooNewLogEventStartIndex"] = 0
    return max(too_old, expired), last, given


def _tags(there: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    tags = {**there, **more}
    if len(tags) > MAX_TAGS:
        raise ServiceError("TooManyTagsException", f"A log group can have no more than {MAX_TAGS} tags.")
    return tags


def _invalid(message: str) -> ServiceError:
    return ServiceError("InvalidParameterException", message)
