"""A made-up trace in the shape of Azure's: whose calls come when, for how long, in how much memory; from a seed.

After "Serverless in the Wild" (Shahrad et al., USENIX ATC 2020), which describes the trace of Azure Functions:

- Calls a day differ by orders of magnitude: 45 % of applications have no more than one an hour, 81 % no more than one a
  minute (Fig. 5). Rates here are log-linear between these; those of more than one in two minutes are cut there: both
  policies keep them warm, and they would only take time.
- A quarter are called by timers, whose periods are alike day by day (Fig. 6: a fifth have a coefficient of variation of
  0 between calls); others by people, with a day's rhythm around a base of half the peak, less at weekends (Fig. 4);
  others in bursts, several at a time; and some rarely, at no time in particular.
- Durations are log-normal, -0.38 and 2.36 of the logarithm of seconds (Fig. 7); cut at Lambda's limit.
- Memory is a Burr distribution of 11.652, 0.221 and 107.083 MB (Fig. 8); at least Lambda's least.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log, pi, sin
from random import Random

MINUTE_S, HOUR_S, DAY_S = 60.0, 3_600.0, 86_400.0
RATES = ((0.0, 0.15), (0.45, 24.0), (0.81, 1_440.0), (1.0, 100_000.0))  # share of functions, calls a day up to
MOST_A_DAY = 720.0
PERIODS_S = {60: 5, 300: 20, 600: 10, 900: 15, 1_800: 10, 3_600: 20, 14_400: 5, 86_400: 15}  # and their weights
KINDS = {"timer": 25, "rhythm": 45, "burst": 20, "rare": 10}
MAX_S = 900.0  # AWS limit on a function's time
MAX_MB, MIN_MB = 10_240, 128  # AWS limits on its memory
BURST_CALLS = 12  # on average …
BURST_GAP_S = 2.0  # … so far apart

Call = tuple[float, float]
"""When it comes and how long it runs, in seconds."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One function's part of the trace."""

    kind: str
    memory_mb: int
    calls: list[Call]


def synthesise(seed: int, functions: int, days: int) -> list[Caller]:
    """So many functions that are called at least once."""
    dice = Random(seed)
    made: list[Caller] = []
    while len(made) < functions:
        kind = dice.choices(list(KINDS), list(KINDS.values()))[0]
        typical_s = min(MAX_S / 4, exp(dice.gauss(-0.38, 2.36)))
        instants = INSTANTS[kind](dice, days * DAY_S)
        calls = [(at, min(MAX_S, typical_s * exp(dice.gauss(0, 0.3)))) for at in instants]
        if calls:
            made.append(Caller(kind, memory_mb(dice), calls))
    return made


def memory_mb(dice: Random) -> int:
    """By the inverse of the distribution's function."""
    found: float = 107.083 * ((1 - dice.random()) ** (-1 / 0.221) - 1) ** (1 / 11.652)
    return max(MIN_MB, min(MAX_MB, round(found)))


def calls_a_day(dice: Random) -> float:
    """Of a function at random."""
    share = dice.random()
    for (low, least), (high, most) in pairwise(RATES):
        if share <= high:
            part = (share - low) / (high - low)
            return min(MOST_A_DAY, exp(log(least) + part * (log(most) - log(least))))
    raise AssertionError("unreachable: the shares end with 1")


def _timer(dice: Random, until: float) -> list[float]:
    period_s = dice.choices(list(PERIODS_S), list(PERIODS_S.values()))[0]
    offset_s = dice.random() * period_s
    return [at for n in range(int(until / period_s)) if (at := offset_s + n * period_s + dice.random()) < until]


def _rhythm(dice: Random, until: float) -> list[float]:
    """A Poisson process of a rate that changes with the hour, by thinning."""
    a_day = calls_a_day(dice)
    shift = dice.random() * DAY_S if dice.random() < 0.2 else 0.0
    return [at for at in _poisson(dice, a_day / 0.75, until) if dice.random() < _busyness(at + shift)]


def _busyness(at: float) -> float:
    """0 to 1; a base of half the peak."""
    of_day = 0.75 + 0.25 * sin(2 * pi * (at / DAY_S - 0.375))
    return of_day * (0.7 if int(at / DAY_S) % 7 >= 5 else 1.0)


def _burst(dice: Random, until: float) -> list[float]:
    instants = []
    for begun in _poisson(dice, calls_a_day(dice) / BURST_CALLS, until):
        at = begun
        while at < until:
            instants.append(at)
            if dice.random() < 1 / BURST_CALLS:
                break
            at += dice.expovariate(1 / BURST_GAP_S)
    return sorted(instants)


def _rare(dice: Random, until: float) -> list[float]:
    return _poisson(dice, dice.uniform(0.15, 3.0), until)


def _poisson(dice: Random, a_day: float, until: float) -> list[float]:
    instants, at = [], dice.expovariate(a_day / DAY_S)
    while at < until:
        instants.append(at)
        at += dice.expovariate(a_day / DAY_S)
    return instants


INSTANTS: dict[str, Callable[[Random, float], list[float]]] = {
    "timer": _timer,
    "rhythm": _rhythm,
    "burst": _burst,
    "rare": _rare,
}
