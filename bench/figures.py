"""What is measured, and the statistics over it: samples in rounds, quantiles, paired ratios; no I/O, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Rounds = Sequence[Sequence[float]]
"""Samples of one party, by round; round i of ours and round i of the peer were measured side by side."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Over all samples of all rounds, in the figure's unit."""

    p50: float
    p90: float


@dataclass(frozen=True, slots=True)
class Spread:
    """The ratios ours / peer of the rounds' medians: their median and quartiles."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured of both parties.

    `more_is_better` says which way a ratio is good; `note` what the reader must know beside the numbers.
    """

    name: str
    unit: str
    ours: Summary
    peer: Summary
    ratio: Spread
    rounds: int
    samples_per_round: int
    more_is_better: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What one benchmark found: who the peer was, the figures, and what a number can't say."""

    name: str
    peer: str
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()


def quantile(samples: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the samples lie, linear between neighbours. Raises ValueError."""
    if not samples or not 0 <= share <= 1:
        raise ValueError(f"cannot take the quantile {share} of {len(samples)} samples")
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def summarise(rounds: Rounds) -> Summary:
    """Median and 90th percentile over the samples of all rounds."""
    samples = [sample for one in rounds for sample in one]
    return Summary(quantile(samples, 0.5), quantile(samples, 0.9))


def paired_ratio(ours: Rounds, peer: Rounds) -> Spread:
    """The spread of ours / peer, round by round. Raises ValueError when the rounds don't pair up."""
    if len(ours) != len(peer):
        raise ValueError(f"cannot pair {len(ours)} rounds of ours with {len(peer)} of the peer")
    ratios = [quantile(a, 0.5) / quantile(b, 0.5) for a, b in zip(ours, peer, strict=True)]
    return Spread(quantile(ratios, 0.5), quantile(ratios, 0.25), quantile(ratios, 0.75))


def compare(
    name: str, unit: str, ours: Rounds, peer: Rounds, *, more_is_better: bool = False, note: str = ""
) -> Figure:
    """A figure out of paired rounds."""
    return Figure(
        name,
        unit,
        summarise(ours),
        summarise(peer),
        paired_ratio(ours, peer),
        len(ours),
        len(ours[0]),
        more_is_better,
        note,
    )
