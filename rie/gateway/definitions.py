"""Where APIs are defined: a file of the manager's own, and API Gateway at a compatible endpoint. Blocks."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rie.aws import Clients
from rie.errors import SettingsError
from rie.gateway.routes import ANY, DEFAULT, HTTP, HTTP_TIMEOUT_MS, REST, REST_TIMEOUT_MS, Api, Route
from rie.model.scope import Scope

_INVOCATIONS = re.compile(r".*:path/2015-03-31/functions/(?P<arn>.+)/invocations")
_API_ID = re.compile(r"[a-z0-9][a-z0-9-]*")

EXAMPLE = """\
[[api]]
id = "shop"
kind = "http"                       # or "rest"
stage = "$default"                  # of a REST API the first part of the path: "prod"
binary = ["image/png"]              # of a REST API, its binaryMediaTypes
routes = { "GET /pets/{id}" = "pets", "ANY /{proxy+}" = "web", "$default" = "web" }"""


def of_file(path: Path, scope: Scope) -> dict[str, Api]:
    """APIs by id. Raises SettingsError."""
    try:
        told = tomllib.loads(path.read_text())
        return {api.api_id: api for api in (_told(each, scope) for each in told.get("api", []))}
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise SettingsError(f"cannot read the routes in {path}: {error}. They look like this:\n{EXAMPLE}") from None


def _told(told: Mapping[str, Any], scope: Scope) -> Api:
    kind = str(told.get("kind", "http")).upper()
    if kind not in (REST, HTTP):
        raise ValueError(f"kind is {told['kind']!r}, neither http nor rest")
    if not _API_ID.fullmatch(str(told["id"])):
        raise ValueError(f"id is {told['id']!r}, not lower-case letters, digits and hyphens")
    stage = str(told.get("stage", DEFAULT if kind == HTTP else "prod"))
    payload = "1.0" if kind == REST else str(told.get("payload", "2.0"))
    routes = []
    for key, function in told["routes"].items():
        method, _, path = key.partition(" ")
        if key != DEFAULT and not path.startswith("/"):
            raise ValueError(f"route {key!r} is neither a method and a path nor {DEFAULT}")
        arn = function if function.startswith("arn:") else _arn(function, scope)
        limit_ms = REST_TIMEOUT_MS if kind == REST else HTTP_TIMEOUT_MS
        routes.append(Route(method if path else ANY, path or DEFAULT, arn, payload, limit_ms))
    binary = _media_types(told.get("binary", ()))
    return Api(str(told["id"]), kind, scope.region, scope.account, tuple(routes), {stage: {}}, True, binary)


def _media_types(given: Iterable[str]) -> tuple[str, ...]:
    """As they are, where patches and templates write ~1 for the slash."""
    return tuple(each.replace("~1", "/") for each in given)


def _arn(name: str, scope: Scope) -> str:
    return f"arn:aws:lambda:{scope.region}:{scope.account}:function:{name}"


def of_endpoint(clients: Clients, api_id: str, scope: Scope) -> Api | None:
    """An API of either kind; None if the endpoint has none of that id. Raises botocore's errors."""
    v2 = clients.client("apigatewayv2", scope.region)
    try:
        v2.get_api(ApiId=api_id)
    except Exception as error:
        if not _is_absent(error):
            raise
    else:
        return _http(v2, api_id, scope)
    v1 = clients.client("apigateway", scope.region)
    try:
        told = v1.get_rest_api(restApiId=api_id)
    except Exception as error:
        if not _is_absent(error):
            raise
        return None
    return _rest(v1, told, scope)


def _is_absent(error: Exception) -> bool:
    """What says that there is none of it, and what knows no such service."""
    answer = getattr(error, "response", {})
    return answer.get("ResponseMetadata", {}).get("HTTPStatusCode") in (404, 501)


def _http(client: Any, api_id: str, scope: Scope) -> Api:
    integrations = {each["IntegrationId"]: each for each in _items(client, "get_integrations", api_id)}
    routes = []
    for each in _items(client, "get_routes", api_id):
        integration = integrations.get(each.get("Target", "").removeprefix("integrations/"))
        if integration is None or integration.get("IntegrationType") != "AWS_PROXY":
            continue
        method, _, path = each["RouteKey"].partition(" ")
        routes.append(
            Route(
                method=method if path else ANY,
                path=path or DEFAULT,
                function=_function(integration.get("IntegrationUri", "")),
                payload=integration.get("PayloadFormatVersion") or "2.0",
                timeout_ms=min(int(integration.get("TimeoutInMillis") or HTTP_TIMEOUT_MS), HTTP_TIMEOUT_MS),
            )
        )
    stages = {each["StageName"]: each.get("StageVariables") or {} for each in _items(client, "get_stages", api_id)}
    return Api(api_id, HTTP, scope.region, scope.account, tuple(routes), stages)


def _items(client: Any, operation: str, api_id: str) -> Iterable[dict[str, Any]]:
    call = {"ApiId": api_id}
    while True:
        told = getattr(client, operation)(**call)
        yield from told.get("Items", [])
        if not told.get("NextToken"):
            return
        call["NextToken"] = told["NextToken"]


def _rest(client: Any, api: Mapping[str, Any], scope: Scope) -> Api:
    routes = []
    api_id = api["id"]
    for page in client.get_paginator("get_resources").paginate(restApiId=api_id, embed=["methods"]):
        for resource in page["items"]:
            for method, told in (resource.get("resourceMethods") or {}).items():
                integration = told.get("methodIntegration") or {}
                if integration.get("type") == "AWS_PROXY":
                    limit_ms = min(int(integration.get("timeoutInMillis") or REST_TIMEOUT_MS), REST_TIMEOUT_MS)
                    function = _function(integration.get("uri", ""))
                    routes.append(Route(method, resource["path"], function, "1.0", limit_ms, resource["id"]))
    stages = {each["stageName"]: each.get("variables") or {} for each in client.get_stages(restApiId=api_id)["item"]}
    binary = _media_types(api.get("binaryMediaTypes") or ())
    return Api(api_id, REST, scope.region, scope.account, tuple(routes), stages, binary=binary)


def _function(uri: str) -> str:
    """The ARN in an integration's URI, or the URI where it is the ARN."""
    found = _INVOCATIONS.fullmatch(uri)
    return found["arn"] if found else uri
