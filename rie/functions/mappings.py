"""Event source mappings: made, changed, read and removed (lambda.md §6.1, §6.2)."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from collections.abc import Mapping as Dict
from dataclasses import replace
from typing import Any

from rie.arn import parse_function_reference
from rie.clock import Clock
from rie.errors import ServiceError
from rie.functions import filters
from rie.functions import mapping_rules as rules
from rie.functions.catalog import Catalog
from rie.functions.faults import refused
from rie.functions.ledger import Ledger
from rie.functions.rules import check_tags
from rie.model.function import Function, FunctionKey
from rie.model.mapping import MAPPINGS, RESULTS, SETTLED, Mapping
from rie.model.record import Place
from rie.model.scope import Scope

Inspect = Callable[[Mapping, Function], None]
"""Looks at the source itself: raises ServiceError when it is not there, or does not fit. Blocks."""


class EventSourceMappings:
    """Every method blocks and may be called from any thread. Raises ServiceError."""

    def __init__(self, catalog: Catalog, ledger: Ledger, clock: Clock, inspect: Inspect) -> None:
        self._catalog = catalog
        self._ledger = ledger
        self._clock = clock
        self._inspect = inspect

    def create(self, scope: Scope, params: Dict[str, Any]) -> Mapping:
        """Make a mapping, Creating; members by their names in the API."""
        service = rules.service_of(params.get("EventSourceArn"), params)
        rules.check_new(service, params)
        rules.check_given(service, params)
        key, qualifier, shown, function = self._function(scope, params["FunctionName"])
        tags = params.get("Tags", {})
        check_tags(tags)
        is_enabled = params.get("Enabled", True)
        starting_at = params.get("StartingPositionTimestamp")
        bare = Mapping(
            uuid=str(uuid.uuid4()),
            key=key,
            qualifier=qualifier,
            function_arn=shown,
            service=service,
            source_arn=params.get("EventSourceArn", ""),
            modified_at=self._now(),
            state="Creating" if is_enabled or service != "sqs" else "Disabled",
            state_reason=rules.USER_ACTION if service in rules.STREAMS else rules.USER_INITIATED,
            is_enabled=is_enabled,
            batch_size=rules.BATCH_SIZES.get(service, rules.DEFAULT_BATCH_SIZE),
            starting_position=params.get("StartingPosition"),
            starting_at=starting_at.timestamp() if starting_at else None,
            tags=tags,
        )
        mapping = self._with(bare, params)
        rules.check_whole(mapping)
        self._inspect(mapping, function)
        with self._ledger.exclusively():
            for _, each in self._ledger.page(MAPPINGS, key.account, key.region):
                if each.key == key and rules.is_same_source(each, mapping):
                    raise rules.conflict(each, key.name)
            self._ledger.put(MAPPINGS, mapping.place, mapping)
        return mapping

    def update(self, scope: Scope, uuid: str, params: Dict[str, Any]) -> Mapping:
        """Change the members that are given; the answer says Updating, Enabling or Disabling."""
        current = self.get(scope, uuid)
        rules.check_given(current.service, params)
        key, qualifier, shown = current.key, current.qualifier, current.function_arn
        function = None
        if "FunctionName" in params:
            key, qualifier, shown, function = self._function(scope, params["FunctionName"])

        def changed(before: Mapping) -> Mapping:
            after = self._with(replace(before, key=key, qualifier=qualifier, function_arn=shown), params)
            is_enabled = params.get("Enabled", before.is_enabled)
            rules.check_whole(after)
            state = "Updating"
            if is_enabled != before.is_enabled:
                state = "Enabling" if is_enabled else "Disabling"
            return replace(after, is_enabled=is_enabled, state=state, modified_at=self._now())

        self._inspect(changed(current), function or self._find(key, qualifier))
        return self._change(current.place, "update", changed)

    def delete(self, scope: Scope, uuid: str) -> Mapping:
        """Begin to remove a mapping; the answer says Deleting."""
        place = Place(scope.account, scope.region, "", uuid)
        return self._change(place, "delete", lambda before: replace(before, state="Deleting", modified_at=self._now()))

    def get(self, scope: Scope, uuid: str) -> Mapping:
        """One mapping."""
        found = self._ledger.find(MAPPINGS, Place(scope.account, scope.region, "", uuid))
        if found is None:
            raise rules.absent()
        return found

    def list(self, scope: Scope, source_arn: str | None, function_name: str | None) -> list[Mapping]:
        """Those of a source, or of a function, or all, by UUID."""
        found = [mapping for _, mapping in self._ledger.page(MAPPINGS, scope.account, scope.region)]
        if source_arn:
            found = [each for each in found if each.source_arn == source_arn]
        if function_name:
            key, qualifier = parse_function_reference(function_name, None, scope)
            found = [each for each in found if each.key == key and qualifier in (None, each.qualifier)]
        return found

    def last_result(self, mapping: Mapping) -> str:
        """LastProcessingResult."""
        found = self._ledger.find(RESULTS, mapping.place)
        return found.text if found else "No records processed"

    def tag(self, scope: Scope, uuid: str, tags: Dict[str, str]) -> None:
        """Add tags, or give those there are new values."""

        def decide(before: Mapping) -> Mapping:
            together = {**before.tags, **tags}
            check_tags(together)
            return replace(before, tags=together)

        self._decide(Place(scope.account, scope.region, "", uuid), decide)

    def untag(self, scope: Scope, uuid: str, names: set[str]) -> None:
        """Take tags away."""
        self._decide(
            Place(scope.account, scope.region, "", uuid),
            lambda before: replace(
                before, tags={name: value for name, value in before.tags.items() if name not in names}
            ),
        )

    def _with(self, mapping: Mapping, params: Dict[str, Any]) -> Mapping:
        """The mapping with the members that are given."""
        patterns = mapping.filters
        if "FilterCriteria" in params:
            patterns = rules.filters_of(params)
            _check_patterns(patterns)
        scaling = params.get("ScalingConfig", {"MaximumConcurrency": mapping.max_concurrency})
        on_failure = mapping.on_failure
        if "OnFailure" in params.get("DestinationConfig", {}):
            on_failure = params["DestinationConfig"]["OnFailure"].get("Destination") or None
        reports = mapping.reports_failures
        if "FunctionResponseTypes" in params:
            reports = "ReportBatchItemFailures" in params["FunctionResponseTypes"]
        return replace(
            mapping,
            batch_size=params.get("BatchSize", mapping.batch_size),
            window_s=params.get("MaximumBatchingWindowInSeconds", mapping.window_s),
            filters=patterns,
            reports_failures=reports,
            max_concurrency=scaling.get("MaximumConcurrency"),
            parallelization=params.get("ParallelizationFactor", mapping.parallelization),
            does_bisect=params.get("BisectBatchOnFunctionError", mapping.does_bisect),
            max_age_s=params.get("MaximumRecordAgeInSeconds", mapping.max_age_s),
            max_retries=params.get("MaximumRetryAttempts", mapping.max_retries),
            tumbling_window_s=params.get("TumblingWindowInSeconds", mapping.tumbling_window_s),
            on_failure=on_failure,
            more=rules.kept_of(params, mapping.more),
        )

    def _function(self, scope: Scope, name: str) -> tuple[FunctionKey, str | None, str, Function]:
        """(key, qualifier, the ARN as it is shown, the function). Raises ServiceError."""
        key, qualifier = parse_function_reference(name, None, scope)
        try:
            function = self._catalog.get(key, qualifier)
        except ServiceError:
            raise refused(rules.NO_FUNCTION) from None
        return key, qualifier, f"{key.arn}:{qualifier}" if qualifier else key.arn, function

    def _find(self, key: FunctionKey, qualifier: str | None) -> Function:
        try:
            return self._catalog.get(key, qualifier)
        except ServiceError:
            raise refused(rules.NO_FUNCTION) from None

    def _change(self, place: Place, doing: str, decide: Callable[[Mapping], Mapping]) -> Mapping:
        def settled(before: Mapping) -> Mapping:
            if before.state not in SETTLED:
                raise rules.in_use(doing)
            return decide(before)

        return self._decide(place, settled)

    def _decide(self, place: Place, decide: Callable[[Mapping], Mapping]) -> Mapping:
        def decided(before: Mapping | None) -> Mapping:
            if before is None:
                raise rules.absent()
            return decide(before)

        after = self._ledger.change(MAPPINGS, place, decided)
        assert after is not None
        return after

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _check_patterns(patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        try:
            filters.check(pattern)
        except filters.InvalidPattern:
            raise refused("Invalid filter pattern definition.") from None
