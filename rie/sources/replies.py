"""What a function's answer says of the items it was given: all done, all failed, or these (§6.5); pure."""

from __future__ import annotations

import json
from collections.abc import Collection

from rie.model.invocation import Outcome


def failed_items(outcome: Outcome, given: Collection[str], *, reports: bool) -> set[str]:
    """The identifiers of the items that have failed, out of those given.

    `reports` says that the mapping asked for ReportBatchItemFailures. What can't be understood fails them all: better
    twice than never.
    """
    if outcome.function_error is not None:
        return set(given)
    if not reports:
        return set()
    try:
        answer = json.loads(outcome.payload) if outcome.payload else None
    except ValueError:
        return set(given)
    if answer in (None, "", {}):
        return set()
    if not isinstance(answer, dict) or "batchItemFailures" not in answer:
        # A window's state beside no failures is an answer too.
        return set() if isinstance(answer, dict) and "state" in answer else set(given)
    failures = answer["batchItemFailures"]
    if failures in (None, []):
        return set()
    if not isinstance(failures, list):
        return set(given)
    named = {each.get("itemIdentifier") if isinstance(each, dict) else None for each in failures}
    return {str(name) for name in named} if named <= set(given) else set(given)
