"""When the runtime of a version is updated: kept and answered (lambda.md §12.7)."""

from __future__ import annotations

from rie.api.context import RequestContext
from rie.api.functions import addressed
from rie.api.parse import Params
from rie.api.views import View
from rie.arn import function_arn
from rie.functions.domain import Domain
from rie.functions.faults import refused
from rie.model.function import LATEST, FunctionKey
from rie.model.record import place_of
from rie.model.runtime import AUTO, MANUAL, RUNTIME_MANAGEMENT, RuntimeManagement


def get_runtime_management_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetRuntimeManagementConfig."""
    key, qualifier = addressed(context, params)
    version = domain.catalog.get(key, qualifier).version
    found = domain.ledger.find(RUNTIME_MANAGEMENT, place_of(key, version))
    return _view(key, version, found or RuntimeManagement(AUTO))


def put_runtime_management_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """PutRuntimeManagementConfig; only Manual goes with a version of the runtime, and cannot do without."""
    key, qualifier = addressed(context, params)
    wanted = RuntimeManagement(params["UpdateRuntimeOn"], params.get("RuntimeVersionArn", ""))
    if wanted.update_on == MANUAL and not wanted.version_arn:
        raise refused(
            "You must specify a runtime version ARN when you set the runtime management configuration to Manual."
        )
    if wanted.update_on != MANUAL and wanted.version_arn:
        raise refused(
            "You can specify a runtime version ARN only when you set the runtime management configuration to Manual."
        )
    with domain.ledger.exclusively():
        version = domain.catalog.get(key, qualifier).version
        domain.ledger.put(RUNTIME_MANAGEMENT, place_of(key, version), wanted)
    return _view(key, version, wanted)


def _view(key: FunctionKey, version: str, config: RuntimeManagement) -> View:
    return {
        "UpdateRuntimeOn": config.update_on,
        "FunctionArn": function_arn(key, None if version == LATEST else version),
        "RuntimeVersionArn": config.version_arn or None,
    }
