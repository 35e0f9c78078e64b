"""What keeps functions: the catalog, the ledger, deployments, and the rules over them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from rie.code.s3 import S3
from rie.functions.catalog import Catalog
from rie.functions.concurrency import Quota
from rie.functions.deployment import Deployment
from rie.functions.domain import Code, Domain, any_role
from rie.functions.ledger import Ledger
from rie.functions.sweeper import Sweeper
from rie.model.alias import ALIASES
from rie.model.concurrency import PROVISIONED, RESERVED
from rie.model.event import EVENT_INVOKE
from rie.model.function_url import FUNCTION_URLS, URL_IDS
from rie.model.mapping import MAPPINGS
from rie.model.policy import POLICIES
from rie.model.record import Kind
from rie.model.recursion import RECURSION
from rie.node.crossing import Crossing
from rie.node.ground import Ground
from rie.node.runs import Runs
from rie.sources.inspection import Inspection

MIRRORED: tuple[Kind[Any], ...] = (  # the kinds of records that invocations need
    ALIASES,
    RESERVED,
    PROVISIONED,
    RECURSION,
    EVENT_INVOKE,
    MAPPINGS,
    POLICIES,
    FUNCTION_URLS,
    URL_IDS,
)


@dataclass(frozen=True, slots=True)
class Control:
    """`domain`: what the API's handlers may call; the others work for it beside the calls."""

    domain: Domain
    deployment: Deployment
    sweeper: Sweeper

    @classmethod
    async def over(cls, ground: Ground, crossing: Crossing, runs: Runs) -> Control:
        """Built; what runs functions knows all that is kept, and what was being deployed goes on."""
        catalog = Catalog(
            ground.store,
            crossing.resolve,
            lambda function: deployment.submit(function),
            crossing.function_changed,
            ground.clock,
        )
        deployment = Deployment(ground.preparation, catalog)
        ledger = Ledger(ground.store.records, crossing.record_changed)
        for function in await asyncio.to_thread(catalog.all):
            runs.directory.update(function)
        for kind in MIRRORED:
            runs.mirror.load(kind, await asyncio.to_thread(ledger.all, kind))
        deployment.resume(await asyncio.to_thread(catalog.unsettled))
        domain = _domain(ground, runs, catalog, ledger)
        return cls(domain, deployment, Sweeper(ground.code, domain.usage.uses, lambda: runs.pool.configurations))


def _domain(ground: Ground, runs: Runs, catalog: Catalog, ledger: Ledger) -> Domain:
    settings = ground.settings
    return Domain.over(
        catalog,
        ledger,
        ground.clock,
        code=Code(ground.code, S3(ground.clients), ground.links),
        inspect=Inspection(ground.clients),
        durable=runs.book,
        check_role=ground.roles.check if ground.roles is not None else any_role,
        quota=Quota(settings.concurrency, settings.unreserved),
        find_allocation=runs.provisioning.allocation,
        url_pattern=settings.url_pattern,
    )
