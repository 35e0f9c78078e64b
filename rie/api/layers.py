"""Layers: publish, read, list, delete, and who else may use them (lambda.md §12.1, §12.2)."""

from __future__ import annotations

import json

from rie.api.context import RequestContext
from rie.api.functions import archive_url
from rie.api.paging import marker, page_size, read_marker
from rie.api.parse import Params
from rie.api.views import View
from rie.functions.domain import Domain
from rie.functions.faults import refused
from rie.functions.layers import Filters, NewVersion, read_arn, read_name, statement
from rie.functions.package import Package, source
from rie.model.layer import Grant, LayerVersion, layer_arn
from rie.model.record import Place

_LAYERS = "layers"
_VERSIONS = "layer-versions"


def publish_layer_version(domain: Domain, context: RequestContext, params: Params) -> View:
    """PublishLayerVersion: 201; the same content again is a version of its own."""
    place = _own(context, params)
    content = params["Content"]
    package = Package(
        zip_file=content.get("ZipFile"),
        s3_bucket=content.get("S3Bucket"),
        s3_key=content.get("S3Key"),
        s3_version=content.get("S3ObjectVersion"),
    )
    new = NewVersion(
        description=params.get("Description", ""),
        license_info=params.get("LicenseInfo"),
        runtimes=_listed(params, "CompatibleRuntimes"),
        architectures=_listed(params, "CompatibleArchitectures"),
    )
    with domain.uploads.keeping(source(package), place.account, place.region) as archive:
        version = domain.layers.publish(place, archive, new)
    return _whole_view(domain, context, place, version)


def get_layer_version(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetLayerVersion."""
    place, number = read_name(params["LayerName"], context), params["VersionNumber"]
    return _whole_view(domain, context, place, domain.layers.get(place, number, context, context.caller.arn))


def get_layer_version_by_arn(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetLayerVersionByArn."""
    place, number = read_arn(params["Arn"])
    return _whole_view(domain, context, place, domain.layers.get(place, number, context, context.caller.arn))


def list_layers(domain: Domain, context: RequestContext, params: Params) -> View:
    """ListLayers: each with its newest version that fits."""
    after = read_marker(_LAYERS, params) or ""
    found, has_more = domain.layers.page(context, _filters(params), after, page_size(params))
    return {
        "Layers": [
            {
                "LayerName": place.name,
                "LayerArn": layer_arn(place),
                "LatestMatchingVersion": _version_view(place, version),
            }
            for place, version in found
        ],
        "NextMarker": marker(_LAYERS, found[-1][0].name if has_more else None),
    }


def list_layer_versions(domain: Domain, context: RequestContext, params: Params) -> View:
    """ListLayerVersions: the newest first."""
    place = read_name(params["LayerName"], context)
    before = read_marker(_VERSIONS, params)
    if before is not None and not before.isdecimal():
        raise refused(f"Invalid Marker: {params['Marker']}")
    found = domain.layers.versions(place, _filters(params)) if place.account == context.account else []
    left = [version for version in found if before is None or version.version < int(before)]
    shown = left[: page_size(params)]
    last = str(shown[-1].version) if len(left) > len(shown) else None
    return {
        "LayerVersions": [_version_view(place, version) for version in shown],
        "NextMarker": marker(_VERSIONS, last),
    }


def delete_layer_version(domain: Domain, context: RequestContext, params: Params) -> View:
    """DeleteLayerVersion: 204, whether it was there or not."""
    domain.layers.delete(_own(context, params), params["VersionNumber"])
    return {}


def add_layer_version_permission(domain: Domain, context: RequestContext, params: Params) -> View:
    """AddLayerVersionPermission: 201."""
    place, number = _own(context, params), params["VersionNumber"]
    if params.get("OrganizationId") and params["Principal"] != "*":
        raise refused("OrganizationId can only be given with the principal *.")
    grant = Grant(params["StatementId"], params["Principal"], params.get("OrganizationId"))
    version = domain.layers.grant(place, number, grant, params.get("RevisionId"))
    return {
        "Statement": _json(statement(f"{layer_arn(place)}:{number}", grant)),
        "RevisionId": version.policy_revision_id,
    }


def get_layer_version_policy(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetLayerVersionPolicy."""
    place, number = _own(context, params), params["VersionNumber"]
    version = domain.layers.granted(place, number)
    statements = [statement(f"{layer_arn(place)}:{number}", grant) for grant in version.grants]
    return {
        "Policy": _json({"Version": "2012-10-17", "Id": "default", "Statement": statements}),
        "RevisionId": version.policy_revision_id,
    }


def remove_layer_version_permission(domain: Domain, context: RequestContext, params: Params) -> View:
    """RemoveLayerVersionPermission: 204."""
    place, number = _own(context, params), params["VersionNumber"]
    domain.layers.revoke(place, number, params["StatementId"], params.get("RevisionId"))
    return {}


def _own(context: RequestContext, params: Params) -> Place:
    """The layer that a request names to change it. Raises ServiceError for another account's."""
    place = read_name(params["LayerName"], context)
    if place.account != context.account:
        raise refused(f"Layers of account {place.account} cannot be changed by account {context.account}.")
    return place


def _filters(params: Params) -> Filters:
    return Filters(params.get("CompatibleRuntime"), params.get("CompatibleArchitecture"))


def _listed(params: Params, name: str) -> tuple[str, ...] | None:
    return tuple(params[name]) if name in params else None


def _whole_view(domain: Domain, context: RequestContext, place: Place, version: LayerVersion) -> View:
    return {
        **_version_view(place, version),
        "LayerArn": layer_arn(place),
        "Content": {
            "CodeSha256": version.archive.code_sha256,
            "CodeSize": version.archive.size,
            "Location": archive_url(domain, context, version.archive),
        },
    }


def _version_view(place: Place, version: LayerVersion) -> View:
    """A version as lists have it: without its content."""
    return {
        "LayerVersionArn": f"{layer_arn(place)}:{version.version}",
        "Version": version.version,
        "Description": version.description,
        "CreatedDate": version.created_at,
        "CompatibleRuntimes": None if version.runtimes is None else list(version.runtimes),
        "CompatibleArchitectures": None if version.architectures is None else list(version.architectures),
        "LicenseInfo": version.license_info,
    }


def _json(document: object) -> str:
    return json.dumps(document, separators=(",", ":"))
