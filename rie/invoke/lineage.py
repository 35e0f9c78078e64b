"""Which functions a chain of calls has been through, in its trace header; pure (lambda.md §2.9, §11.8).

    Root=1-…;Parent=…;Sampled=0;Lineage=1:<hash of a function>:<times it ran before>|1:<hash of another>:<times>

SDKs pass the header on from the function that they run in, so a function that calls itself, by whatever way, meets
its own hash again.
"""

from __future__ import annotations

import re
import zlib
from functools import lru_cache

MAX_PASSES = 16  # AWS limit
MAX_FUNCTIONS = 64  # of one chain that are remembered; a header has no room for more
_FIELD = "Lineage="
_PASS = re.compile(r"(?:\d{1,9}:)?([0-9a-f]{8}):(\d{1,9})", re.ASCII)


def passed_on(trace_id: str, arn: str) -> tuple[str, int]:
    """The header for a function of that (unqualified) ARN, and how often the chain has been through it before.

    A lineage that makes no sense is dropped.
    """
    own = _hash(arn)
    if _FIELD not in trace_id:
        return f"{trace_id};{_FIELD}1:{own}:0", 0
    fields = [field.strip() for field in trace_id.split(";")]
    passes = _read(next((field for field in fields if field.startswith(_FIELD)), ""))
    count = passes.pop(own, -1) + 1
    passes[own] = count
    kept = [field for field in fields if field and not field.startswith(_FIELD)]
    lineage = "|".join(f"1:{name}:{times}" for name, times in list(passes.items())[-MAX_FUNCTIONS:])
    return ";".join([*kept, f"{_FIELD}{lineage}"]), count


def _read(field: str) -> dict[str, int]:
    """Times by hash; empty unless every part of it makes sense."""
    passes = {}
    for part in field.removeprefix(_FIELD).split("|"):
        found = _PASS.fullmatch(part)
        if found is None:
            return {}
        passes[found[1]] = int(found[2])
    return passes


@lru_cache(maxsize=4096)
def _hash(arn: str) -> str:
    return f"{zlib.crc32(arn.encode()):08x}"
