"""Reports as text for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from bench.figures import Figure, Report

HEADINGS = ("", "ours p50", "p90", "peer p50", "p90", "ours / peer (quartiles)", "rounds")


def as_text(facts: Mapping[str, str], reports: Sequence[Report]) -> str:
    """Machine facts, then a table and the notes for each report."""
    lines = [f"{name}: {value}" for name, value in facts.items()]
    for report in reports:
        lines += ["", f"{report.name}, beside {report.peer}", *_table(report.figures)]
        notes = [f"{figure.name}: {figure.note}" for figure in report.figures if figure.note]
        lines += [f"- {note}" for note in (*notes, *report.notes)]
    return "\n".join(lines)


def as_json(facts: Mapping[str, str], reports: Sequence[Report]) -> str:
    """The same, as {"machine": {…}, "reports": [{"name", "peer", "figures": […], "notes": […]}]}."""
    return json.dumps({"machine": dict(facts), "reports": [asdict(report) for report in reports]}, indent=1)


def number(value: float) -> str:
    """Three significant digits at least, thousands with a comma: 0.612, 23.4, 1,830."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def _table(figures: Sequence[Figure]) -> list[str]:
    rows = [HEADINGS, *(_row(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    names = [row[0].ljust(widths[0]) for row in rows]
    cells = [[cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)] for row in rows]
    return ["  ".join([name, *rest]) for name, rest in zip(names, cells, strict=True)]


def _row(figure: Figure) -> tuple[str, ...]:
    ours, peer, ratio = figure.ours, figure.peer, figure.ratio
    better = " (more is better)" if figure.more_is_better else ""
    is_single = figure.samples_per_round == 1
    return (
        f"{figure.name}, {figure.unit}{better}",
        number(ours.p50),
        number(ours.p90),
        number(peer.p50),
        number(peer.p90),
        f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})",
        f"{figure.rounds}" if is_single else f"{figure.rounds} x {figure.samples_per_round:,}",
    )
