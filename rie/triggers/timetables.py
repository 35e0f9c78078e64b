"""When schedules of EventBridge Scheduler run: `at(…)` too, in a time zone, from a start to an end; pure (§10.3)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from rie.triggers.schedules import Cron, InvalidSchedule, Rate, parse

INSTANT = timedelta(microseconds=1)
_AT = re.compile(r"at\((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\)")


@dataclass(frozen=True, slots=True)
class At:
    """Once."""

    instant: datetime

    def after(self, now: datetime, since: datetime) -> datetime | None:
        """The instant, unless it is past."""
        return self.instant if self.instant > now else None


@dataclass(frozen=True, slots=True)
class InZone:
    """A Cron by the clocks of a zone: what they skip is skipped, what they show twice runs once."""

    cron: Cron
    zone: ZoneInfo

    def after(self, now: datetime, since: datetime) -> datetime | None:
        """The next instant after `now`; None if there is none any more."""
        shown = now.astimezone(self.zone).replace(tzinfo=UTC, fold=0)
        while True:
            following = self.cron.after(shown, since)
            if following is None:
                return None
            shown = following
            found = shown.replace(tzinfo=self.zone).astimezone(UTC)
            if found > now and found.astimezone(self.zone).replace(tzinfo=UTC, fold=0) == shown:
                return found


@dataclass(frozen=True, slots=True)
class Timetable:
    """A schedule's; a rate is counted from `since`, which is its start, or when it was made."""

    schedule: Rate | At | InZone
    since: datetime
    start: datetime | None = None
    end: datetime | None = None

    def after(self, now: datetime) -> datetime | None:
        """The next instant after `now`; None if there is none any more."""
        earliest = now if self.start is None else max(now, self.start - INSTANT)
        found = self.schedule.after(earliest, self.since)
        return None if found is None or (self.end is not None and found > self.end) else found


def timetable(
    expression: str, zone: str, made_at: datetime, start: datetime | None = None, end: datetime | None = None
) -> Timetable:
    """Raises InvalidSchedule."""
    return Timetable(_parse(expression.strip(), zone), start or made_at, start, end)


def _parse(expression: str, zone: str) -> Rate | At | InZone:
    try:
        clocks = ZoneInfo(zone)
    except (OSError, ValueError) as error:  # ZoneInfoNotFoundError is a KeyError besides
        raise InvalidSchedule(f"{zone!r} is no time zone: {error}") from None
    except KeyError:
        raise InvalidSchedule(f"{zone!r} is no time zone that this machine knows") from None
    if expression.startswith("at("):
        found = _AT.fullmatch(expression)
        try:
            return At(datetime.fromisoformat(found[1] if found else "").replace(tzinfo=clocks).astimezone(UTC))
        except ValueError:
            raise InvalidSchedule(f"{expression!r} is not at(yyyy-mm-ddThh:mm:ss)") from None
    schedule = parse(expression)
    return schedule if isinstance(schedule, Rate) else InZone(schedule, clocks)
