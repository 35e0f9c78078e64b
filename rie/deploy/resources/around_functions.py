"""What belongs to a function, at the manager: aliases, permissions, URLs, asynchronous settings, event sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rie.deploy.clients import Clients
from rie.deploy.resources.base import Made, ResourceType, answer_of, only, shaped, tags
from rie.deploy.state import Held


class Alias(ResourceType):
    """Ref: its ARN. AliasArn."""

    type = "AWS::Lambda::Alias"
    attributes = frozenset({"AliasArn"})
    known = frozenset(
        {"Description", "FunctionName", "FunctionVersion", "Name", "ProvisionedConcurrencyConfig", "RoutingConfig"}
    )
    required = frozenset({"FunctionName", "FunctionVersion", "Name"})
    replacing = frozenset({"FunctionName", "Name"})

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        client = clients.get("lambda")
        made = client.create_alias(**shaped(client, "CreateAlias", _alias(properties)))
        _provision(client, properties)
        return _alias_made(made)

    def update(self, clients: Clients, held: Held, properties: dict[str, Any], changed: Sequence[str]) -> Made:
        client = clients.get("lambda")
        wanted = {"Description": "", "RoutingConfig": {}, **_alias(properties)}
        made = client.update_alias(**shaped(client, "UpdateAlias", wanted))
        if "ProvisionedConcurrencyConfig" in changed and "ProvisionedConcurrencyConfig" not in properties:
            client.delete_provisioned_concurrency_config(
                FunctionName=properties["FunctionName"], Qualifier=properties["Name"]
            )
        _provision(client, properties)
        return _alias_made(made)

    def delete(self, clients: Clients, held: Held) -> None:
        clients.get("lambda").delete_alias(**only(held.properties, "FunctionName", "Name"))

    def find(self, clients: Clients, held: Held) -> Made | None:
        found = answer_of(clients.get("lambda").get_alias, **only(held.properties, "FunctionName", "Name"))
        return _alias_made(found) if found else None


class Permission(ResourceType):
    """Ref: its statement's id."""

    type = "AWS::Lambda::Permission"
    attributes = frozenset({"Id"})
    known = frozenset(
        [
            "Action",
            "EventSourceToken",
            "FunctionName",
            "FunctionUrlAuthType",
            "InvokedViaFunctionUrl",
            "Principal",
            "PrincipalOrgID",
            "SourceAccount",
            "SourceArn",
        ]
    )
    required = frozenset({"Action", "FunctionName", "Principal"})
    replacing = known
    longest_name = 100

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        client = clients.get("lambda")
        client.add_permission(**shaped(client, "AddPermission", {**properties, "StatementId": name}))
        return Made(name, {"Id": name})

    def delete(self, clients: Clients, held: Held) -> None:
        name, qualifier = unqualified(held.properties["FunctionName"])
        clients.get("lambda").remove_permission(FunctionName=name, StatementId=held.name, **qualifier)

    def find(self, clients: Clients, held: Held) -> Made | None:
        name, qualifier = unqualified(held.properties["FunctionName"])
        found = answer_of(clients.get("lambda").get_policy, FunctionName=name, **qualifier)
        is_there = found is not None and f'"{held.name}"' in found["Policy"]
        return Made(held.name, {"Id": held.name}) if is_there else None


class Url(ResourceType):
    """Ref: the function's ARN. FunctionUrl, FunctionArn."""

    type = "AWS::Lambda::Url"
    attributes = frozenset({"FunctionUrl", "FunctionArn"})
    known = frozenset({"AuthType", "Cors", "InvokeMode", "Qualifier", "TargetFunctionArn"})
    required = frozenset({"AuthType", "TargetFunctionArn"})
    replacing = frozenset({"Qualifier", "TargetFunctionArn"})

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        client = clients.get("lambda")
        return _url(client.create_function_url_config(**shaped(client, "CreateFunctionUrlConfig", _target(properties))))

    def update(self, clients: Clients, held: Held, properties: dict[str, Any], changed: Sequence[str]) -> Made:
        client = clients.get("lambda")
        wanted = {"Cors": {}, "InvokeMode": "BUFFERED", **_target(properties)}
        return _url(client.update_function_url_config(**shaped(client, "UpdateFunctionUrlConfig", wanted)))

    def delete(self, clients: Clients, held: Held) -> None:
        clients.get("lambda").delete_function_url_config(**_of(held))

    def find(self, clients: Clients, held: Held) -> Made | None:
        found = answer_of(clients.get("lambda").get_function_url_config, **_of(held))
        return _url(found) if found else None


class EventInvokeConfig(ResourceType):
    """Ref: a name."""

    type = "AWS::Lambda::EventInvokeConfig"
    attributes: ClassVar[frozenset[str]] = frozenset()
    is_deleted_first = True
    known = frozenset(
        {"DestinationConfig", "FunctionName", "MaximumEventAgeInSeconds", "MaximumRetryAttempts", "Qualifier"}
    )
    required = frozenset({"FunctionName", "Qualifier"})
    replacing = frozenset({"FunctionName", "Qualifier"})

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        client = clients.get("lambda")
        client.put_function_event_invoke_config(**shaped(client, "PutFunctionEventInvokeConfig", properties))
        return Made(name)

    def update(self, clients: Clients, held: Held, properties: dict[str, Any], changed: Sequence[str]) -> Made:
        return self.create(clients, held.name, properties)

    def delete(self, clients: Clients, held: Held) -> None:
        clients.get("lambda").delete_function_event_invoke_config(**only(held.properties, "FunctionName", "Qualifier"))

    def find(self, clients: Clients, held: Held) -> Made | None:
        where = only(held.properties, "FunctionName", "Qualifier")
        found = answer_of(clients.get("lambda").get_function_event_invoke_config, **where)
        return Made(held.name) if found else None


_MAPPING_DEFAULTS: dict[str, Any] = {
    "BatchSize": None,
    "BisectBatchOnFunctionError": False,
    "DestinationConfig": {"OnFailure": {}},
    "Enabled": True,
    "FilterCriteria": {},
    "FunctionResponseTypes": [],
    "MaximumBatchingWindowInSeconds": 0,
    "MaximumRecordAgeInSeconds": -1,
    "MaximumRetryAttempts": -1,
    "ParallelizationFactor": 1,
    "ScalingConfig": {},
    "TumblingWindowInSeconds": 0,
}


class EventSourceMapping(ResourceType):
    """Ref and Id: its UUID. EventSourceMappingArn."""

    type = "AWS::Lambda::EventSourceMapping"
    attributes = frozenset({"Id", "EventSourceMappingArn"})
    is_deleted_first = True
    known = frozenset(
        {*_MAPPING_DEFAULTS, "EventSourceArn", "FunctionName", "StartingPosition", "StartingPositionTimestamp", "Tags"}
        | {"KmsKeyArn", "MetricsConfig", "LoggingConfig", "ProvisionedPollerConfig"}
    )
    required = frozenset({"EventSourceArn", "FunctionName"})
    replacing = frozenset({"EventSourceArn", "StartingPosition", "StartingPositionTimestamp", "Tags"})

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        client = clients.get("lambda")
        wanted = _mapping(properties)
        return _mapped(
            client.create_event_source_mapping(**shaped(client, "CreateEventSourceMapping", wanted)), "Enabled", client
        )

    def update(self, clients: Clients, held: Held, properties: dict[str, Any], changed: Sequence[str]) -> Made:
        client = clients.get("lambda")
        left = {key: _MAPPING_DEFAULTS[key] for key in changed if key in _MAPPING_DEFAULTS and key not in properties}
        fixed = {"EventSourceArn", "StartingPosition", "StartingPositionTimestamp", "Tags"}
        wanted = {key: value for key, value in {**left, **_mapping(properties)}.items() if key not in fixed}
        wanted = {key: value for key, value in wanted.items() if value is not None}
        made = client.update_event_source_mapping(
            **shaped(client, "UpdateEventSourceMapping", {**wanted, "UUID": held.physical_id})
        )
        return _mapped(made, "Enabled", client)

    def delete(self, clients: Clients, held: Held) -> None:
        client = clients.get("lambda")
        client.delete_event_source_mapping(UUID=held.physical_id)
        _settle(client, held.physical_id)

    def find(self, clients: Clients, held: Held) -> Made | None:
        client = clients.get("lambda")
        if held.physical_id:
            found = answer_of(client.get_event_source_mapping, UUID=held.physical_id)
        else:
            where = only(held.properties, "EventSourceArn", "FunctionName")
            listed = answer_of(client.list_event_source_mappings, **where) or {}
            found = next(iter(listed.get("EventSourceMappings", [])), None)
        return _mapped(found, "", client) if found and found["State"] != "Deleting" else None


def unqualified(function: str) -> tuple[str, dict[str, str]]:
    """A name or ARN without its qualifier, and the qualifier as a parameter: both forms have three colons less."""
    parts = function.split(":")
    if len(parts) in (2, 8):
        return ":".join(parts[:-1]), {"Qualifier": parts[-1]}
    return function, {}


def _alias(properties: Mapping[str, Any]) -> dict[str, Any]:
    wanted = only(properties, "Description", "FunctionName", "FunctionVersion", "Name")
    if routing := properties.get("RoutingConfig"):
        weights = routing.get("AdditionalVersionWeights", [])
        wanted["RoutingConfig"] = {
            "AdditionalVersionWeights": {each["FunctionVersion"]: float(each["FunctionWeight"]) for each in weights}
        }
    return wanted


def _alias_made(told: Mapping[str, Any]) -> Made:
    return Made(told["AliasArn"], {"AliasArn": told["AliasArn"]})


def _provision(client: Any, properties: Mapping[str, Any]) -> None:
    if provisioned := properties.get("ProvisionedConcurrencyConfig"):
        client.put_provisioned_concurrency_config(
            FunctionName=properties["FunctionName"],
            Qualifier=properties["Name"],
            ProvisionedConcurrentExecutions=int(provisioned["ProvisionedConcurrentExecutions"]),
        )


def _target(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **only(properties, "AuthType", "Cors", "InvokeMode", "Qualifier"),
        "FunctionName": properties["TargetFunctionArn"],
    }


def _of(held: Held) -> dict[str, Any]:
    return {"FunctionName": held.properties["TargetFunctionArn"], **only(held.properties, "Qualifier")}


def _url(told: Mapping[str, Any]) -> Made:
    arn = told["FunctionArn"]
    return Made(arn, {"FunctionUrl": told["FunctionUrl"], "FunctionArn": arn})


def _mapping(properties: Mapping[str, Any]) -> dict[str, Any]:
    wanted = {key: value for key, value in properties.items() if key != "KmsKeyArn"}
    if "KmsKeyArn" in properties:
        wanted["KMSKeyArn"] = properties["KmsKeyArn"]
    if "Tags" in properties:
        wanted["Tags"] = tags(properties)
    return wanted


def _mapped(told: Mapping[str, Any], awaited: str, client: Any) -> Made:
    if awaited:
        told = _settle(client, told["UUID"]) or told
    uuid = told["UUID"]
    return Made(uuid, {"Id": uuid, "EventSourceMappingArn": told.get("EventSourceMappingArn", "")})


def _settle(client: Any, uuid: str, within_s: float = 120) -> Mapping[str, Any] | None:
    """The mapping once nothing happens to it any more; None if it is gone."""
    import time

    until = time.monotonic() + within_s
    while True:
        told = answer_of(client.get_event_source_mapping, UUID=uuid)
        if told is None or not told["State"].endswith("ing") or time.monotonic() > until:
            return told
        time.sleep(0.2)
