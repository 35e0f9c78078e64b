"""Code signing: configurations, and the functions that have one (lambda.md §12.4)."""

from __future__ import annotations

from rie.api.context import RequestContext
from rie.api.functions import addressed, unqualified
from rie.api.paging import marker, page_size, read_marker
from rie.api.parse import Params
from rie.api.views import View
from rie.functions.domain import Domain
from rie.functions.faults import refused
from rie.functions.signing import SigningChanges
from rie.model.function import FunctionKey
from rie.model.record import Place
from rie.model.signing import SigningConfig, signing_config_arn

_CONFIGS = "code-signing-configs"
_FUNCTIONS = "code-signing-functions"


def create_code_signing_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """CreateCodeSigningConfig: 201."""
    place, config = domain.signing.create(context, _changes(params), params.get("Tags", {}))
    return {"CodeSigningConfig": _view(place, config)}


def get_code_signing_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetCodeSigningConfig."""
    return {"CodeSigningConfig": _view(*domain.signing.get(params["CodeSigningConfigArn"]))}


def update_code_signing_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """UpdateCodeSigningConfig: only the members that are given change."""
    return {"CodeSigningConfig": _view(*domain.signing.update(params["CodeSigningConfigArn"], _changes(params)))}


def delete_code_signing_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """DeleteCodeSigningConfig: 204."""
    domain.signing.delete(params["CodeSigningConfigArn"])
    return {}


def list_code_signing_configs(domain: Domain, context: RequestContext, params: Params) -> View:
    """ListCodeSigningConfigs."""
    after = read_marker(_CONFIGS, params) or ""
    found, has_more = domain.signing.page(context, after, page_size(params))
    return {
        "CodeSigningConfigs": [_view(place, config) for place, config in found],
        "NextMarker": marker(_CONFIGS, found[-1][0].name if has_more else None),
    }


def list_functions_by_code_signing_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """ListFunctionsByCodeSigningConfig."""
    after = read_marker(_FUNCTIONS, params) or ""
    found = [key for key in domain.signing.functions_of(params["CodeSigningConfigArn"]) if key.name > after]
    shown = found[: page_size(params)]
    return {
        "FunctionArns": [key.arn for key in shown],
        "NextMarker": marker(_FUNCTIONS, shown[-1].name if len(found) > len(shown) else None),
    }


def put_function_code_signing_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """PutFunctionCodeSigningConfig: the configuration is looked for before the function."""
    arn = params["CodeSigningConfigArn"]
    domain.signing.check_exists(arn)
    key = unqualified(context, params)
    if not domain.catalog.get(key).configuration.is_zip:
        raise refused("Code signing is not supported for functions with PackageType Image.")
    domain.signing.bind(key, arn)
    return _function_view(key, arn)


def get_function_code_signing_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetFunctionCodeSigningConfig: {} without one, which terraform reads on every refresh."""
    key, _ = addressed(context, params)
    domain.catalog.get(key)
    arn = domain.signing.bound(key)
    return _function_view(key, arn) if arn else {}


def delete_function_code_signing_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """DeleteFunctionCodeSigningConfig: 204, whether there was one or not."""
    key = unqualified(context, params)
    domain.catalog.get(key)
    domain.signing.unbind(key)
    return {}


def _changes(params: Params) -> SigningChanges:
    publishers = params.get("AllowedPublishers")
    return SigningChanges(
        publishers=None if publishers is None else tuple(publishers["SigningProfileVersionArns"]),
        policy=params.get("CodeSigningPolicies", {}).get("UntrustedArtifactOnDeployment"),
        description=params.get("Description"),
    )


def _view(place: Place, config: SigningConfig) -> View:
    return {
        "CodeSigningConfigId": place.name,
        "CodeSigningConfigArn": signing_config_arn(place),
        "Description": config.description or None,
        "AllowedPublishers": {"SigningProfileVersionArns": list(config.publishers)},
        "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": config.policy},
        "LastModified": config.last_modified,
    }


def _function_view(key: FunctionKey, arn: str) -> View:
    return {"CodeSigningConfigArn": arn, "FunctionName": key.name}
