"""Schedule expressions of rules: `rate(5 minutes)` and `cron(0 12 ? * MON-FRI *)`, in UTC; pure (lambda.md §10.3)."""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

MINUTE = timedelta(minutes=1)
UNITS = {"minute": MINUTE, "hour": timedelta(hours=1), "day": timedelta(days=1)}
YEARS = (1970, 2199)  # AWS limits
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")  # from 1

_RATE = re.compile(r"rate\((\d+) (minute|hour|day)(s?)\)")
_CRON = re.compile(r"cron\(([^()]*)\)")

IsDay = Callable[[date], bool]


class InvalidSchedule(ValueError):
    """An expression that is none."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Every so often, counted from when its rule was seen first."""

    every: timedelta

    def after(self, now: datetime, since: datetime) -> datetime | None:
        """The next instant after `now`."""
        return since + ((now - since) // self.every + 1) * self.every


@dataclass(frozen=True, slots=True)
class Cron:
    """At whole minutes that all six fields allow."""

    minutes: frozenset[int]
    hours: frozenset[int]
    is_day: IsDay
    months: frozenset[int]
    years: frozenset[int]

    def after(self, now: datetime, since: datetime) -> datetime | None:
        """The next instant after `now`; None if there is none any more."""
        first = now.replace(second=0, microsecond=0) + MINUTE
        day = first.date()
        while day.year <= max(self.years):
            if day.year not in self.years:
                day = date(day.year + 1, 1, 1)
            elif day.month not in self.months:
                day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
            else:
                found = self._within(day, first) if self.is_day(day) else None
                if found is not None:
                    return found
                day += timedelta(days=1)
        return None

    def _within(self, day: date, first: datetime) -> datetime | None:
        for hour in sorted(self.hours):
            for minute in sorted(self.minutes):
                at = datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)
                if at >= first:
                    return at
        return None


def parse(expression: str) -> Rate | Cron:
    """Raises InvalidSchedule."""
    if found := _RATE.fullmatch(expression.strip()):
        count = int(found[1])
        if not count or (count == 1) == bool(found[3]):
            raise InvalidSchedule(f"{expression!r}: 1 takes the singular, more the plural")
        return Rate(UNITS[found[2]] * count)
    found = _CRON.fullmatch(expression.strip())
    fields = found[1].split() if found else []
    if len(fields) != 6:
        raise InvalidSchedule(f"{expression!r} is neither rate(…) nor cron(minutes hours day month weekday year)")
    minutes, hours, of_month, months, of_week, years = fields
    if (of_month == "?") == (of_week == "?"):
        raise InvalidSchedule(f"{expression!r}: one of day-of-month and day-of-week is ?, the other is not")
    return Cron(
        minutes=_numbers(minutes, 0, 59),
        hours=_numbers(hours, 0, 23),
        is_day=_days_of_week(of_week) if of_month == "?" else _days_of_month(of_month),
        months=_numbers(months, 1, 12, MONTHS),
        years=_numbers(years, *YEARS),
    )


def _numbers(field: str, lowest: int, highest: int, names: tuple[str, ...] = ()) -> frozenset[int]:
    """Of `*`, `5`, `1-5`, `0/15`, `*/15`, names, and lists of them."""
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        start, _, end = span.partition("-")
        if span == "*":
            first, last = lowest, highest
        else:
            first = _number(start, lowest, highest, names)
            last = _number(end, lowest, highest, names) if end else highest if step else first
        width = _number(step, 1, highest) if step else 1
        if first > last:  # FRI-MON
            found.update(range(first, highest + 1, width))
            first = lowest
        found.update(range(first, last + 1, width))
    return frozenset(found)


def _number(text: str, lowest: int, highest: int, names: tuple[str, ...] = ()) -> int:
    if text.upper() in names:
        return names.index(text.upper()) + 1
    if not (text.isascii() and text.isdigit() and lowest <= int(text) <= highest):
        raise InvalidSchedule(f"{text!r} is not between {lowest} and {highest}")
    return int(text)


def _days_of_month(field: str) -> IsDay:
    """`L` is the month's last day, `15W` the weekday nearest to the 15th."""
    if field in ("L", "LW"):
        return lambda day: day.day == (_nearest_weekday(day, _last(day)) if field == "LW" else _last(day))
    if field.endswith("W"):
        wanted = _number(field[:-1], 1, 31)
        return lambda day: wanted <= _last(day) and day.day == _nearest_weekday(day, wanted)
    days = _numbers(field, 1, 31)
    return lambda day: day.day in days


def _days_of_week(field: str) -> IsDay:
    """`6L` is the month's last Friday, `6#3` its third."""
    if field.endswith("L"):
        wanted = _number(field[:-1] or "7", 1, 7, DAYS)
        is_anyones = field == "L"
        return lambda day: _weekday(day) == wanted and (is_anyones or day.day > _last(day) - 7)
    if "#" in field:
        name, _, nth = field.partition("#")
        wanted, week = _number(name, 1, 7, DAYS), _number(nth, 1, 5)
        return lambda day: _weekday(day) == wanted and (day.day - 1) // 7 + 1 == week
    days = _numbers(field, 1, 7, DAYS)
    return lambda day: _weekday(day) in days


def _weekday(day: date) -> int:
    """1 is Sunday."""
    return day.isoweekday() % 7 + 1


def _last(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def _nearest_weekday(month: date, wanted: int) -> int:
    """Never in another month."""
    day = month.replace(day=wanted)
    if day.isoweekday() == 6:
        return wanted - 1 if wanted > 1 else wanted + 2
    if day.isoweekday() == 7:
        return wanted + 1 if wanted < _last(month) else wanted - 2
    return wanted
