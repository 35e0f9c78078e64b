"""Concurrency: reserved for functions (lambda.md §7.2), provisioned for versions and aliases (§7.3)."""

from __future__ import annotations

from rie.api.context import RequestContext
from rie.api.functions import addressed, unqualified
from rie.api.paging import paged
from rie.api.parse import Params
from rie.api.views import View
from rie.arn import function_arn
from rie.functions.concurrency import Progress
from rie.functions.domain import Domain
from rie.model.function import LATEST, FunctionKey


def put_function_concurrency(domain: Domain, context: RequestContext, params: Params) -> View:
    """PutFunctionConcurrency."""
    slots = domain.reservations.reserve(unqualified(context, params), params["ReservedConcurrentExecutions"])
    return {"ReservedConcurrentExecutions": slots}


def get_function_concurrency(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetFunctionConcurrency: {} while nothing is reserved."""
    key = unqualified(context, params)
    domain.catalog.get(key)
    return {"ReservedConcurrentExecutions": domain.reservations.reserved(key)}


def delete_function_concurrency(domain: Domain, context: RequestContext, params: Params) -> View:
    """DeleteFunctionConcurrency: 204."""
    domain.reservations.release(unqualified(context, params))
    return {}


def put_provisioned_concurrency_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """PutProvisionedConcurrencyConfig: 202, IN_PROGRESS."""
    key, qualifier = _qualified(context, params)
    return _view(domain.reservations.provision(key, qualifier, params["ProvisionedConcurrentExecutions"]))


def get_provisioned_concurrency_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetProvisionedConcurrencyConfig."""
    return _view(domain.reservations.progress(*_qualified(context, params)))


def list_provisioned_concurrency_configs(domain: Domain, context: RequestContext, params: Params) -> View:
    """ListProvisionedConcurrencyConfigs."""
    key, _ = addressed(context, params)
    found = domain.reservations.all_progress(key)
    page, last = paged("provisioned", params, found, lambda each: each[0])
    configs = [{"FunctionArn": function_arn(key, name), **_view(progress)} for name, progress in page]
    return {"ProvisionedConcurrencyConfigs": configs, "NextMarker": last}


def delete_provisioned_concurrency_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """DeleteProvisionedConcurrencyConfig: 204, also when there is none."""
    domain.reservations.withdraw(*_qualified(context, params))
    return {}


def _qualified(context: RequestContext, params: Params) -> tuple[FunctionKey, str]:
    key, qualifier = addressed(context, params)
    return key, qualifier or LATEST


def _view(progress: Progress) -> View:
    return {
        "RequestedProvisionedConcurrentExecutions": progress.record.slots,
        "AvailableProvisionedConcurrentExecutions": progress.available,
        "AllocatedProvisionedConcurrentExecutions": progress.available,
        "Status": progress.status,
        "StatusReason": progress.reason,
        "LastModified": progress.record.last_modified,
    }
