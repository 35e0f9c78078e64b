"""Versions of functions: publish and list (lambda.md §4.1)."""

from __future__ import annotations

from rie.api.context import RequestContext
from rie.api.functions import addressed, unqualified
from rie.api.paging import paged
from rie.api.parse import Params
from rie.api.requests import is_latest_published
from rie.api.views import View, configuration_view, listed_view
from rie.functions.domain import Domain
from rie.functions.publishing import NewVersion


def publish_version(domain: Domain, context: RequestContext, params: Params) -> View:
    """PublishVersion: 201, also when nothing has changed and the last version is given back."""
    new = NewVersion(
        key=unqualified(context, params),
        description=params.get("Description"),
        code_sha256=params.get("CodeSha256") or None,
        revision_id=params.get("RevisionId") or None,
        is_latest_published=is_latest_published(params),
    )
    version = domain.catalog.publish(new)
    return configuration_view(version, version.version)


def list_versions_by_function(domain: Domain, context: RequestContext, params: Params) -> View:
    """ListVersionsByFunction: $LATEST first, every ARN qualified."""
    key, _ = addressed(context, params)
    page, last = paged("versions", params, domain.catalog.versions(key), lambda function: function.version)
    return {"Versions": [listed_view(function, function.version) for function in page], "NextMarker": last}
