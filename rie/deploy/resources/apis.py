"""What SAM's events of type Api and HttpApi become: APIs at the endpoint whose routes the manager's gateway answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rie.deploy.clients import Clients
from rie.deploy.resources.base import Made, ResourceType, answer_of, only, text
from rie.deploy.state import Held

_ANY = "x-amazon-apigateway-any-method"
_INTEGRATION = "x-amazon-apigateway-integration"
_METHODS = frozenset({_ANY, "delete", "get", "head", "options", "patch", "post", "put"})
_NAME_TAG = "rie:name"  # by which an API is found whose id was never noted
_DEFAULT = "$default"


@dataclass(frozen=True, slots=True)
class _Route:
    method: str  # "ANY" or a verb
    path: str
    integration: Mapping[str, Any]


def _routes(body: Mapping[str, Any]) -> Iterator[_Route]:
    for path, methods in (body.get("paths") or {}).items():
        for method, about in methods.items():
            if method in _METHODS:
                verb = "ANY" if method == _ANY else method.upper()
                yield _Route(verb, path, (about or {}).get(_INTEGRATION) or {})


def _wrong(properties: Mapping[str, Any]) -> list[str]:
    """What a body says that would be lost, and with it perhaps who may call."""
    body = properties["Body"]
    if not isinstance(body, Mapping):
        return ["Body: a definition in the template is wanted"]
    problems = []
    for route in _routes(body):
        if str(route.integration.get("type", "")).lower() != "aws_proxy":
            problems.append(f"{route.method} {route.path}: only functions behind a proxy integration are supported")
    for path, methods in (body.get("paths") or {}).items():
        for method, about in methods.items():
            if method in _METHODS and (about or {}).get("security"):
                problems.append(f"{method.upper()} {path}: authorizers are not supported")
    return problems


class HttpApi(ResourceType):
    """Ref and ApiId: its id. ApiEndpoint."""

    type = "AWS::ApiGatewayV2::Api"
    service = "apigatewayv2"
    attributes = frozenset({"ApiEndpoint", "ApiId"})
    known = frozenset({"Body", "CorsConfiguration", "Description", "FailOnWarnings", "Name", "ProtocolType", "Tags"})
    required = frozenset({"Body"})

    def check(self, properties: dict[str, Any]) -> list[str]:
        return _wrong(properties)

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        client = clients.get(self.service)
        title = properties.get("Name") or properties["Body"].get("info", {}).get("title") or name
        made = client.create_api(Name=text(title), ProtocolType="HTTP", Tags={_NAME_TAG: name})
        self._lay(client, made["ApiId"], properties)
        return _http(clients, made["ApiId"])

    def update(self, clients: Clients, held: Held, properties: dict[str, Any], changed: Sequence[str]) -> Made:
        client = clients.get(self.service)
        for route in client.get_routes(ApiId=held.physical_id)["Items"]:
            client.delete_route(ApiId=held.physical_id, RouteId=route["RouteId"])
        for each in client.get_integrations(ApiId=held.physical_id)["Items"]:
            client.delete_integration(ApiId=held.physical_id, IntegrationId=each["IntegrationId"])
        self._lay(client, held.physical_id, properties)
        return _http(clients, held.physical_id)

    def delete(self, clients: Clients, held: Held) -> None:
        clients.get(self.service).delete_api(ApiId=held.physical_id)

    def find(self, clients: Clients, held: Held) -> Made | None:
        client = clients.get(self.service)
        if held.physical_id:
            return _http(clients, held.physical_id) if answer_of(client.get_api, ApiId=held.physical_id) else None
        named = [each for each in client.get_apis()["Items"] if each.get("Tags", {}).get(_NAME_TAG) == held.name]
        return _http(clients, named[0]["ApiId"]) if named else None

    def _lay(self, client: Any, api_id: str, properties: Mapping[str, Any]) -> None:
        cors = properties.get("CorsConfiguration")
        if isinstance(cors, Mapping):
            client.update_api(ApiId=api_id, CorsConfiguration=cors)
        for route in _routes(properties["Body"]):
            integration = client.create_integration(
                ApiId=api_id,
                IntegrationType="AWS_PROXY",
                IntegrationMethod="POST",
                IntegrationUri=route.integration["uri"],
                PayloadFormatVersion=text(route.integration.get("payloadFormatVersion", "2.0")),
            )["IntegrationId"]
            key = _DEFAULT if route.path.strip("/") == _DEFAULT else f"{route.method} {route.path}"
            client.create_route(ApiId=api_id, RouteKey=key, Target=f"integrations/{integration}")


class HttpStage(ResourceType):
    """Ref: its name."""

    type = "AWS::ApiGatewayV2::Stage"
    service = "apigatewayv2"
    attributes = frozenset()
    known = frozenset({"ApiId", "AutoDeploy", "Description", "StageName", "StageVariables", "Tags"})
    required = frozenset({"ApiId", "StageName"})
    replacing = known
    is_deleted_first = True

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        wanted = only(properties, "ApiId", "Description", "StageName", "StageVariables")
        clients.get(self.service).create_stage(AutoDeploy=True, **wanted)
        return Made(properties["StageName"])

    def delete(self, clients: Clients, held: Held) -> None:
        clients.get(self.service).delete_stage(**only(held.properties, "ApiId", "StageName"))

    def find(self, clients: Clients, held: Held) -> Made | None:
        where = only(held.properties, "ApiId", "StageName")
        found = answer_of(clients.get(self.service).get_stage, **where)
        return Made(where["StageName"]) if found else None


class RestApi(ResourceType):
    """Ref and RestApiId: its id. RootResourceId."""

    type = "AWS::ApiGateway::RestApi"
    service = "apigateway"
    attributes = frozenset({"RestApiId", "RootResourceId"})
    known = frozenset(
        {"BinaryMediaTypes", "Body", "Description", "EndpointConfiguration", "FailOnWarnings", "Name", "Parameters"}
        | {"Tags"}
    )
    required = frozenset({"Body"})
    replacing = frozenset({"BinaryMediaTypes"})

    def check(self, properties: dict[str, Any]) -> list[str]:
        return _wrong(properties)

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        client = clients.get(self.service)
        title = properties.get("Name") or properties["Body"].get("info", {}).get("title") or name
        types = [each.replace("~1", "/") for each in properties.get("BinaryMediaTypes", [])]
        media = {"binaryMediaTypes": types} if types else {}
        made = client.create_rest_api(name=text(title), tags={_NAME_TAG: name}, **media)
        if media and not made.get("binaryMediaTypes"):  # which moto drops
            for each in types:
                add = {"op": "add", "path": f"/binaryMediaTypes/{each.replace('/', '~1')}", "value": each}
                client.update_rest_api(restApiId=made["id"], patchOperations=[add])
        self._lay(client, made["id"], properties)
        return _rest(client, made["id"])

    def update(self, clients: Clients, held: Held, properties: dict[str, Any], changed: Sequence[str]) -> Made:
        client = clients.get(self.service)
        paths = _resources(client, held.physical_id)
        for path in sorted(paths, key=len, reverse=True):
            if path != "/":
                client.delete_resource(restApiId=held.physical_id, resourceId=paths[path]["id"])
        for method in paths["/"].get("resourceMethods") or {}:
            client.delete_method(restApiId=held.physical_id, resourceId=paths["/"]["id"], httpMethod=method)
        self._lay(client, held.physical_id, properties)
        return _rest(client, held.physical_id)

    def delete(self, clients: Clients, held: Held) -> None:
        clients.get(self.service).delete_rest_api(restApiId=held.physical_id)

    def find(self, clients: Clients, held: Held) -> Made | None:
        client = clients.get(self.service)
        if held.physical_id:
            found = answer_of(client.get_rest_api, restApiId=held.physical_id)
            return _rest(client, held.physical_id) if found else None
        named = [each for each in client.get_rest_apis()["items"] if each.get("tags", {}).get(_NAME_TAG) == held.name]
        return _rest(client, named[0]["id"]) if named else None

    def _lay(self, client: Any, api_id: str, properties: Mapping[str, Any]) -> None:
        ids = {path: each["id"] for path, each in _resources(client, api_id).items()}
        for route in _routes(properties["Body"]):
            path = ""
            for part in route.path.strip("/").split("/") if route.path.strip("/") else []:
                parent, path = path or "/", f"{path}/{part}"
                if path not in ids:
                    made = client.create_resource(restApiId=api_id, parentId=ids[parent], pathPart=part)
                    ids[path] = made["id"]
            where = {"restApiId": api_id, "resourceId": ids[path or "/"], "httpMethod": route.method}
            client.put_method(authorizationType="NONE", **where)
            client.put_integration(
                type="AWS_PROXY", integrationHttpMethod="POST", uri=route.integration["uri"], **where
            )


class Deployment(ResourceType):
    """Ref and DeploymentId: its id."""

    type = "AWS::ApiGateway::Deployment"
    service = "apigateway"
    attributes = frozenset({"DeploymentId"})
    known = frozenset({"Description", "RestApiId", "StageName"})
    required = frozenset({"RestApiId"})
    replacing = known

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        # A stage of its own ("Stage") is what SAM asks for because CloudFormation once had to: nobody calls it.
        made = clients.get(self.service).create_deployment(restApiId=properties["RestApiId"], description=name)
        return Made(made["id"], {"DeploymentId": made["id"]})

    def delete(self, clients: Clients, held: Held) -> None:
        where = {"restApiId": held.properties["RestApiId"], "deploymentId": held.physical_id}
        clients.get(self.service).delete_deployment(**where)

    def find(self, clients: Clients, held: Held) -> Made | None:
        listed = answer_of(clients.get(self.service).get_deployments, restApiId=held.properties["RestApiId"]) or {}
        for each in listed.get("items", []):
            if held.physical_id == each["id"] or (not held.physical_id and each.get("description") == held.name):
                return Made(each["id"], {"DeploymentId": each["id"]})
        return None


class RestStage(ResourceType):
    """Ref: its name."""

    type = "AWS::ApiGateway::Stage"
    service = "apigateway"
    attributes = frozenset()
    known = frozenset({"DeploymentId", "Description", "RestApiId", "StageName", "Tags", "TracingEnabled", "Variables"})
    required = frozenset({"DeploymentId", "RestApiId", "StageName"})
    replacing = frozenset({"RestApiId", "StageName", "Variables"})
    is_deleted_first = True

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        stage = _stage(properties)
        more = {"variables": properties["Variables"]} if "Variables" in properties else {}
        clients.get(self.service).create_stage(**stage, deploymentId=properties["DeploymentId"], **more)
        return Made(properties["StageName"])

    def update(self, clients: Clients, held: Held, properties: dict[str, Any], changed: Sequence[str]) -> Made:
        aimed = [{"op": "replace", "path": "/deploymentId", "value": properties["DeploymentId"]}]
        clients.get(self.service).update_stage(**_stage(properties), patchOperations=aimed)
        return Made(properties["StageName"])

    def delete(self, clients: Clients, held: Held) -> None:
        clients.get(self.service).delete_stage(**_stage(held.properties))

    def find(self, clients: Clients, held: Held) -> Made | None:
        found = answer_of(clients.get(self.service).get_stage, **_stage(held.properties))
        return Made(held.properties["StageName"]) if found else None


def _stage(properties: Mapping[str, Any]) -> dict[str, str]:
    return {"restApiId": properties["RestApiId"], "stageName": properties["StageName"]}


def _http(clients: Clients, api_id: str) -> Made:
    endpoint = f"https://{api_id}.execute-api.{clients.region}.amazonaws.com"
    return Made(api_id, {"ApiEndpoint": endpoint, "ApiId": api_id})


def _resources(client: Any, api_id: str) -> dict[str, Any]:
    pages = client.get_paginator("get_resources").paginate(restApiId=api_id, embed=["methods"])
    return {each["path"]: each for page in pages for each in page["items"]}


def _rest(client: Any, api_id: str) -> Made:
    return Made(api_id, {"RestApiId": api_id, "RootResourceId": _resources(client, api_id)["/"]["id"]})
