"""CloudWatch Logs' questions answered from the files: pages of groups, of streams and of events (lambda.md §11.9)."""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Any

from rie.errors import ServiceError
from rie.logs.files import LogFiles, Stream
from rie.logs.follow import LogLine
from rie.logs.groups import Group
from rie.logs.patterns import Unsupported, matcher
from rie.model.scope import Scope

Params = Mapping[str, Any]
View = dict[str, Any]

# AWS limits of a page.
PAGE_DESCRIBED = 50
PAGE_EVENTS = 10_000
PAGE_BYTES = 1_048_576
SCANNED = 200_000  # lines looked at for one page, so that a pattern that matches nothing ends in time
NAMES = ("logGroupName", "logGroupIdentifier")  # members that a group is named by


class LogQueries:
    """Each method answers one operation; blocks. Raises ServiceError."""

    def __init__(self, files: LogFiles) -> None:
        self._files = files

    # -- groups -------------------------------------------------------------------------------------------------------

    def describe_log_groups(self, scope: Scope, params: Params) -> View:
        """By name; `logGroupNamePrefix`, `logGroupNamePattern` (a part of the name), `logGroupIdentifiers`, a class."""
        prefix, part = params.get("logGroupNamePrefix", ""), params.get("logGroupNamePattern", "").lower()
        names = {_name_in(each) for each in params.get("logGroupIdentifiers", ())}
        wanted = params.get("logGroupClass")
        groups = [
            group
            for group in self._files.groups()
            if group.name.startswith(prefix)
            and part in group.name.lower()
            and (not names or group.name in names)
            and wanted in (None, group.log_class)
        ]
        page, more = _page(groups, params)
        return {"logGroups": [self._group_view(scope, group) for group in page], **more}

    def list_log_groups(self, scope: Scope, params: Params) -> View:
        """By name; `logGroupNamePattern` has up to five parts of names, "^" before one that names begin with."""
        patterns = params.get("logGroupNamePattern", "").split("|")
        wanted = params.get("logGroupClass")
        groups = [
            group
            for group in self._files.groups()
            if wanted in (None, group.log_class)
            and any(group.name.startswith(p[1:]) if p.startswith("^") else p in group.name for p in patterns)
        ]
        page, more = _page(groups, params)
        views = [
            {
                "logGroupName": group.name,
                "logGroupArn": group_arn(scope, group.name),
                "logGroupClass": group.log_class,
            }
            for group in page
        ]
        return {"logGroups": views, **more}

    def list_tags_for_resource(self, scope: Scope, params: Params) -> View:
        """Of a group."""
        return {"tags": find_group(self._files, params, "resourceArn").tags}

    def list_tags_log_group(self, scope: Scope, params: Params) -> View:
        """ListTagsForResource by the group's name, as older clients call it."""
        return {"tags": find_group(self._files, params).tags}

    def describe_subscription_filters(self, scope: Scope, params: Params) -> View:
        """By name; `filterNamePrefix`."""
        group, prefix = find_group(self._files, params), params.get("filterNamePrefix", "")
        page, more = _page([each for each in group.subscriptions if each.name.startswith(prefix)], params)
        views = [
            {
                "filterName": each.name,
                "logGroupName": group.name,
                "filterPattern": each.pattern,
                "destinationArn": each.destination,
                "distribution": each.distribution or "ByLogStream",
                "creationTime": each.created_at_ms,
            }
            for each in page
        ]
        return {"subscriptionFilters": views, **more}

    # -- streams and events -----------------------------------------------------------------------------------------

    def describe_log_streams(self, scope: Scope, params: Params) -> View:
        """By name, or by the time of their last event."""
        group = find_group(self._files, params)
        prefix = params.get("logStreamNamePrefix", "")
        streams = [stream for stream in self._files.streams(group.name) if stream.name.startswith(prefix)]
        if params.get("orderBy") == "LastEventTime":
            streams.sort(key=lambda stream: stream.last_at_ms or 0)
        if params.get("descending"):
            streams.reverse()
        page, more = _page(streams, params)
        return {"logStreams": [_stream_view(scope, group, stream) for stream in page], **more}

    def filter_log_events(self, scope: Scope, params: Params) -> View:
        """Of all streams, or of those named, by time."""
        group = find_group(self._files, params)
        names, prefix = params.get("logStreamNames"), params.get("logStreamNamePrefix", "")
        try:
            matches = matcher(params.get("filterPattern", ""))
        except Unsupported as error:
            raise ServiceError("InvalidParameterException", f"Invalid filter pattern: {error}") from None
        at_ms, skip = _position(params["nextToken"]) if "nextToken" in params else (params.get("startTime", 0), 0)
        lines = self._files.read(group.name, at_ms, lambda name: name.startswith(prefix) and name in (names or (name,)))
        until_ms = params.get("endTime")
        events: list[View] = []
        limit, size = min(params.get("limit", PAGE_EVENTS), PAGE_EVENTS), 0
        for scanned, (line, position) in enumerate(_positioned(lines, at_ms, skip)):
            if until_ms is not None and line.at_ms > until_ms:
                break
            if scanned >= SCANNED or len(events) >= limit or size > PAGE_BYTES:
                return {"events": events, "searchedLogStreams": [], "nextToken": position}
            if matches(line.text):
                events.append(_event_view(line))
                size += len(line.text) + 26
        return {"events": events, "searchedLogStreams": []}

    def get_log_events(self, scope: Scope, params: Params) -> View:
        """Of one stream; without a token its newest, with `startFromHead` its oldest. The same token again: the end."""
        group, name = find_group(self._files, params), params["logStreamName"]
        if not self._files.has_stream(group.name, name):
            raise no_stream()
        lines = self._files.read(group.name, params.get("startTime", 0), lambda each: each == name)
        until_ms = params.get("endTime")
        kept = [line for line in lines if until_ms is None or line.at_ms < until_ms]
        limit = min(params.get("limit", PAGE_EVENTS), PAGE_EVENTS)
        token = params.get("nextToken", "")
        if token[:2] in ("f/", "b/"):
            at = _index(kept, *_position(token[2:]))
            first, last = (at, at + limit) if token.startswith("f/") else (max(0, at - limit), at)
        elif token:
            raise _bad_token()
        else:
            first, last = (0, limit) if params.get("startFromHead") else (max(0, len(kept) - limit), len(kept))
        page = kept[first:last]
        return {
            "events": [
                {"timestamp": line.at_ms, "message": line.text + line.ending, "ingestionTime": line.at_ms}
                for line in page
            ],
            "nextForwardToken": f"f/{_place(kept, first + len(page))}",
            "nextBackwardToken": f"b/{_place(kept, first)}",
        }

    # -- their parts ------------------------------------------------------------------------------------------------

    def _group_view(self, scope: Scope, group: Group) -> View:
        arn = group_arn(scope, group.name)
        view = {
            "logGroupName": group.name,
            "creationTime": group.created_at_ms,
            "metricFilterCount": 0,
            "arn": f"{arn}:*",
            "logGroupArn": arn,
            "logGroupClass": group.log_class,
            "storedBytes": sum(stream.size for stream in self._files.streams(group.name)),
        }
        more = {"retentionInDays": group.retention_days, "kmsKeyId": group.kms_key}
        return {**view, **{name: value for name, value in more.items() if value}}


def find_group(files: LogFiles, params: Params, *members: str) -> Group:
    """The group that one of some members names, by its name or its ARN. Raises ResourceNotFoundException."""
    name = next((params[member] for member in members or NAMES if params.get(member)), "")
    found = files.group(_name_in(name))
    if found is None:
        raise ServiceError("ResourceNotFoundException", "The specified log group does not exist.")
    return found


def no_stream() -> ServiceError:
    """For a stream that is not there."""
    return ServiceError("ResourceNotFoundException", "The specified log stream does not exist.")


def group_arn(scope: Scope, name: str) -> str:
    """The ARN of a group; also of one that was named by its ARN."""
    return f"arn:aws:logs:{scope.region}:{scope.account}:log-group:{_name_in(name)}"


def _name_in(name: str) -> str:
    return name.split(":")[6] if name.startswith("arn:") and name.count(":") >= 6 else name


def _stream_view(scope: Scope, group: Group, stream: Stream) -> View:
    instants = {
        "firstEventTimestamp": stream.first_at_ms,
        "lastEventTimestamp": stream.last_at_ms,
        "lastIngestionTime": stream.written_at_ms,
    }
    return {
        "logStreamName": stream.name,
        "creationTime": stream.created_at_ms,
        "uploadSequenceToken": "1",
        "arn": f"{group_arn(scope, group.name)}:log-stream:{stream.name}",
        "storedBytes": stream.size,
        **({} if stream.first_at_ms is None else instants),
    }


def _event_view(line: LogLine) -> View:
    # Digits, as the service's; the same for the same line whenever it is asked for.
    event_id = f"{line.at_ms:020d}{zlib.crc32(line.stream.encode()):010d}{line.offset:026d}"
    return {
        "logStreamName": line.stream,
        "timestamp": line.at_ms,
        "message": line.text + line.ending,
        "ingestionTime": line.at_ms,
        "eventId": event_id,
    }


def _page(found: list[Any], params: Params) -> tuple[list[Any], View]:
    token, limit = params.get("nextToken", "0"), params.get("limit", PAGE_DESCRIBED)
    if not (token.isascii() and token.isdecimal() and len(token) < 12):
        raise _bad_token()
    end = int(token) + limit
    return found[int(token) : end], {"nextToken": str(end)} if end < len(found) else {}


def _positioned(lines: Iterator[LogLine], at_ms: int, skip: int) -> Iterator[tuple[LogLine, str]]:
    """Lines from a position on, each with its own: the instant, and how many lines of that instant come before."""
    last_ms, seen = at_ms, 0
    for line in lines:
        last_ms, seen = (last_ms, seen) if line.at_ms == last_ms else (line.at_ms, 0)
        if line.at_ms != at_ms or seen >= skip:
            yield line, f"{last_ms}:{seen}"
        seen += 1


def _position(token: str) -> tuple[int, int]:
    at, _, skip = token.partition(":")
    if not (token.isascii() and at.isdecimal() and skip.isdecimal() and len(token) < 32):
        raise _bad_token()
    return int(at), int(skip)


def _place(lines: list[LogLine], index: int) -> str:
    """The position before a line, or after the last."""
    at = min(index, len(lines) - 1)
    if at < 0:
        return "0:0"
    first = bisect_left(lines, lines[at].at_ms, key=lambda line: line.at_ms)
    return f"{lines[at].at_ms}:{index - first}"


def _index(lines: list[LogLine], at_ms: int, skip: int) -> int:
    return min(bisect_left(lines, at_ms, key=lambda line: line.at_ms) + skip, len(lines))


def _bad_token() -> ServiceError:
    return ServiceError("InvalidParameterException", "The specified nextToken is invalid.")
