"""Functions: create, read, update, list, delete (lambda.md §1)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from rie.api import requests
from rie.api.context import RequestContext
from rie.api.paging import marker, page_size, read_marker
from rie.api.parse import Params
from rie.api.views import View, code_view, configuration_view, listed_view
from rie.arn import parse_function_reference
from rie.functions.capacity import provider_place
from rie.functions.changes import Changes, NewCode, NewFunction
from rie.functions.domain import Domain
from rie.functions.faults import refused
from rie.functions.package import check_members, check_new, check_update
from rie.functions.uploads import Source
from rie.model.code import Archive
from rie.model.function import LATEST, FunctionKey

_MARKER = "functions"


def create_function(domain: Domain, context: RequestContext, params: Params) -> View:
    """CreateFunction: 201, Pending."""
    key = unqualified(context, params)
    package = requests.package(params, params["Code"])
    source = check_new(package)
    requests.check_available(params)
    domain.check_role(params["Role"], key.name)
    signing_arn = params.get("CodeSigningConfigArn")
    if signing_arn:
        domain.signing.check_exists(signing_arn)
    new = NewFunction(
        key=key,
        image_uri=package.image_uri or "",
        changes=requests.changes(params, domain.layers.resolve(package.layers, context, context.caller.arn)),
        architecture=requests.architecture(params) or "x86_64",
        tags=params.get("Tags", {}),
        is_published=requests.is_published(params),
        is_latest_published=requests.is_latest_published(params),
        tenancy_mode=params.get("TenancyConfig", {}).get("TenantIsolationMode"),
        package_type=package.package_type,
        source_kms_key_arn=params["Code"].get("SourceKMSKeyArn"),
    )
    domain.catalog.check_new(new)
    _check_capacity_provider(domain, context, new.changes)
    with _kept(domain, key, source, signing_arn) as archive:
        function = domain.catalog.create(replace(new, archive=archive))
    if signing_arn:
        domain.signing.bind(key, signing_arn)
    return configuration_view(function)


@contextmanager
def _kept(domain: Domain, key: FunctionKey, source: Source | None, signing_arn: str | None) -> Iterator[Archive | None]:
    """The archive that a request brings, while it is written down; None if it names an image."""
    if source is None:
        yield None
        return
    with domain.uploads.keeping(source, key.account, key.region) as archive:
        domain.signing.check_unsigned(signing_arn)
        yield archive


def _check_capacity_provider(domain: Domain, context: RequestContext, changes: Changes) -> None:
    if changes.managed is not None:
        domain.capacity.get(provider_place(context, changes.managed.capacity_provider_arn))


def get_function(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetFunction: the configuration, where the code is, and the tags if there are any."""
    key, qualifier = addressed(context, params)
    function = domain.catalog.get(key, qualifier)
    reserved = domain.reservations.reserved(key)
    return {
        "Configuration": configuration_view(function, qualifier),
        "Code": code_view(function, archive_url(domain, context, function.configuration.archive)),
        "Tags": dict(domain.catalog.get(key).tags) or None,
        "Concurrency": None if reserved is None else {"ReservedConcurrentExecutions": reserved},
    }


def get_function_configuration(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetFunctionConfiguration."""
    key, qualifier = addressed(context, params)
    return configuration_view(domain.catalog.get(key, qualifier), qualifier)


def update_function_configuration(domain: Domain, context: RequestContext, params: Params) -> View:
    """UpdateFunctionConfiguration: only the members that are given change."""
    key = unqualified(context, params)
    current = domain.catalog.get(key).configuration
    package = requests.package(params, {})
    check_members(package, current.package_type)
    requests.check_available(params)
    if "Role" in params:
        domain.check_role(params["Role"], key.name)
    layers = None
    if "Layers" in params:
        layers = domain.layers.resolve(package.layers, context, context.caller.arn, keep=current.layers)
        if layers:
            domain.signing.check_unsigned(domain.signing.bound(key))
    return configuration_view(
        domain.catalog.update_configuration(key, requests.changes(params, layers), params.get("RevisionId")),
    )


def update_function_code(domain: Domain, context: RequestContext, params: Params) -> View:
    """UpdateFunctionCode; a dry run checks everything and changes nothing."""
    key = unqualified(context, params)
    current = domain.catalog.get(key)
    package = requests.package(params, params)
    source = check_update(package, current.configuration.package_type)
    requests.check_available(params)
    domain.catalog.check_changeable(current, params.get("RevisionId"))
    with _kept(domain, key, source, domain.signing.bound(key)) as archive:
        code = NewCode(
            key=key,
            image_uri=package.image_uri or "",
            architecture=requests.architecture(params),
            revision_id=params.get("RevisionId"),
            is_dry_run=params.get("DryRun", False),
            is_published=requests.is_published(params),
            is_latest_published=requests.is_latest_published(params),
            archive=archive,
            source_kms_key_arn=params.get("SourceKMSKeyArn"),
        )
        function = domain.catalog.update_code(code)
    return configuration_view(function, None if function.version == LATEST else function.version)


def archive_url(domain: Domain, context: RequestContext, archive: Archive | None) -> str | None:
    """Where an archive can be downloaded for ten minutes, by the name that the caller knows us by."""
    return f"{context.base_url}{domain.links.path(archive.sha256)}" if archive else None


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
