"""Functions: create, read, update, list, delete (lambda.md §1)."""

from __future__ import annotations

from rie.api import requests
from rie.api.context import RequestContext
from rie.api.paging import marker, page_size, read_marker
from rie.api.parse import Params
from rie.api.views import View, code_view, configuration_view, listed_view
from rie.arn import parse_function_reference
from rie.functions.changes import NewCode, NewFunction
from rie.functions.domain import Domain
from rie.functions.faults import refused
from rie.functions.package import check_image_only, check_new, check_update
from rie.model.function import LATEST, FunctionKey

_MARKER = "functions"


def create_function(domain: Domain, context: RequestContext, params: Params) -> View:
    """CreateFunction: 201, Pending."""
    key = unqualified(context, params)
    image_uri = check_new(requests.package(params, params["Code"]))
    requests.check_available(params)
    new = NewFunction(
        key=key,
        image_uri=image_uri,
        changes=requests.changes(params),
        architecture=requests.architecture(params) or "x86_64",
        tags=params.get("Tags", {}),
        is_published=params.get("Publish", False),
    )
    return configuration_view(domain.catalog.create(new))


def get_function(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetFunction: the configuration, where the code is, and the tags if there are any."""
    key, qualifier = addressed(context, params)
    function = domain.catalog.get(key, qualifier)
    return {
        "Configuration": configuration_view(function, qualifier),
        "Code": code_view(function),
        "Tags": dict(domain.catalog.get(key).tags) or None,
    }


def get_function_configuration(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetFunctionConfiguration."""
    key, qualifier = addressed(context, params)
    return configuration_view(domain.catalog.get(key, qualifier), qualifier)


def update_function_configuration(domain: Domain, context: RequestContext, params: Params) -> View:
    """UpdateFunctionConfiguration: only the members that are given change."""
    key = unqualified(context, params)
    domain.catalog.get(key)
    check_image_only(requests.package(params, {}))
    requests.check_available(params)
    return configuration_view(
        domain.catalog.update_configuration(key, requests.changes(params), params.get("RevisionId")),
    )


def update_function_code(domain: Domain, context: RequestContext, params: Params) -> View:
    """UpdateFunctionCode; a dry run checks everything and changes nothing."""
    key = unqualified(context, params)
    domain.catalog.get(key)
    image_uri = check_update(requests.package(params, params))
    requests.check_available(params)
    code = NewCode(
        key=key,
        image_uri=image_uri,
        architecture=requests.architecture(params),
        revision_id=params.get("RevisionId"),
        is_dry_run=params.get("DryRun", False),
        is_published=params.get("Publish", False),
    )
    function = domain.catalog.update_code(code)
    return configuration_view(function, None if function.version == LATEST else function.version)


def list_functions(domain: Domain, context: RequestContext, params: Params) -> View:
    """ListFunctions; with FunctionVersion=ALL every version of each, and the ARNs are qualified."""
    after = read_marker(_MARKER, params)
    if "FunctionVersion" in params:
        return _list_versions(domain, context, params, after)
    found, last = domain.catalog.page(context.account, context.region, after, page_size(params))
    return {"Functions": [listed_view(function) for function in found], "NextMarker": marker(_MARKER, last)}


def _list_versions(domain: Domain, context: RequestContext, params: Params, after: str | None) -> View:
    name, _, version = (after or "").partition(":")
    found, last = domain.catalog.page_versions(
        context.account, context.region, (name, version or LATEST) if after else None, page_size(params)
    )
    return {
        "Functions": [listed_view(function, function.version) for function in found],
        "NextMarker": marker(_MARKER, ":".join(last) if last else None),
    }


def delete_function(domain: Domain, context: RequestContext, params: Params) -> View:
    """DeleteFunction: 204."""
    key, qualifier = addressed(context, params)
    domain.versions.delete(key, qualifier)
    return {}


def addressed(context: RequestContext, params: Params) -> tuple[FunctionKey, str | None]:
    """The function and the qualifier that a request names, in whichever of its two places."""
    return parse_function_reference(params["FunctionName"], params.get("Qualifier"), context)


def unqualified(context: RequestContext, params: Params) -> FunctionKey:
    """The function that a request names to change it; only $LATEST can be changed. Raises ServiceError."""
    key, qualifier = addressed(context, params)
    if qualifier not in (None, LATEST):
        raise refused(
            "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
            "Please specify either a function name or an unqualified function ARN."
        )
    return key
