"""AWS::Lambda::Function and its versions and layers, at the manager."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from rie.deploy.clients import Clients
from rie.deploy.packaging import LOCAL_BUCKET, zip_text
from rie.deploy.resources.base import Made, ResourceType, answer_of, only, shaped, tags
from rie.deploy.state import Held

# What a property that leaves the template goes back to.
_DEFAULTS: dict[str, Any] = {
    "DeadLetterConfig": {"TargetArn": ""},
    "Description": "",
    "Environment": {"Variables": {}},
    "EphemeralStorage": {"Size": 512},
    "FileSystemConfigs": [],
    "ImageConfig": {},
    "KMSKeyArn": "",
    "Layers": [],
    "LoggingConfig": {"LogFormat": "Text"},
    "MemorySize": 128,
    "SnapStart": {"ApplyOn": "None"},
    "Timeout": 3,
    "TracingConfig": {"Mode": "PassThrough"},
    "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []},
}
_CONFIGURATION = ("Handler", "Role", "Runtime", *_DEFAULTS)
_AT_CREATION = ("Architectures", "CapacityProviderConfig", "CodeSigningConfigArn", "DurableConfig", "TenancyConfig")
_BESIDE = (
    "Code FunctionName KmsKeyArn PackageType RecursiveLoop ReservedConcurrentExecutions RuntimeManagementConfig Tags"
)


class Function(ResourceType):
    """Ref: its name. Arn."""

    type = "AWS::Lambda::Function"
    known = frozenset({*_CONFIGURATION, *_AT_CREATION, *_BESIDE.split()} - {"KMSKeyArn"})
    required = frozenset({"Code", "Role"})
    replacing = frozenset({"FunctionName", "PackageType", "CapacityProviderConfig", "DurableConfig", "TenancyConfig"})
    named_by = "FunctionName"

    def check(self, properties: dict[str, Any]) -> list[str]:
        runtime = str(properties.get("Runtime", ""))
        if "ZipFile" in properties["Code"] and not runtime.startswith(("python", "nodejs")):
            return [f"inline code is for python and nodejs, not for {runtime or 'no runtime'}"]
        return []

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        client = clients.get("lambda")
        wanted = {
            **_configuration(properties),
            **only(properties, *_AT_CREATION),
            "FunctionName": name,
            "Code": code_of(clients, properties),
            "PackageType": _package_type(properties),
            "Tags": tags(properties),
        }
        created = client.create_function(**shaped(client, "CreateFunction", wanted))
        self._beside(client, name, {}, properties)
        _await(client, "function_active_v2", name)
        return Made(name, {"Arn": created["FunctionArn"]})

    def update(self, clients: Clients, held: Held, properties: dict[str, Any], changed: Sequence[str]) -> Made:
        client = clients.get("lambda")
        name = held.name
        if {"Code", "Architectures"}.intersection(changed):
            code = {"FunctionName": name, **code_of(clients, properties), **only(properties, "Architectures")}
            client.update_function_code(**shaped(client, "UpdateFunctionCode", code))
            _await(client, "function_updated_v2", name)
        if set(changed).intersection((*_CONFIGURATION, "KmsKeyArn")):
            left = {key: _DEFAULTS[key] for key in changed if key in _DEFAULTS and key not in properties}
            wanted = {"FunctionName": name, **left, **_configuration(properties)}
            client.update_function_configuration(**shaped(client, "UpdateFunctionConfiguration", wanted))
            _await(client, "function_updated_v2", name)
        self._beside(client, name, held.properties, properties)
        arn = client.get_function_configuration(FunctionName=name)["FunctionArn"]
        _tag(client, arn, tags(held.properties), tags(properties))
        return Made(name, {"Arn": arn})

    def delete(self, clients: Clients, held: Held) -> None:
        clients.get("lambda").delete_function(FunctionName=held.name)

    def find(self, clients: Clients, held: Held) -> Made | None:
        found = answer_of(clients.get("lambda").get_function_configuration, FunctionName=held.name)
        return Made(held.name, {"Arn": found["FunctionArn"]}) if found else None

    def _beside(self, client: Any, name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        """What has operations of its own, where it differs."""
        reserved = "ReservedConcurrentExecutions"
        if old.get(reserved) != new.get(reserved):
            if reserved in new:
                client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=int(new[reserved]))
            else:
                client.delete_function_concurrency(FunctionName=name)
        if old.get("RecursiveLoop") != new.get("RecursiveLoop"):
            client.put_function_recursion_config(FunctionName=name, RecursiveLoop=new.get("RecursiveLoop", "Terminate"))
        management = "RuntimeManagementConfig"
        if old.get(management) != new.get(management):
            wanted = new.get(management, {"UpdateRuntimeOn": "Auto"})
            client.put_runtime_management_config(FunctionName=name, **wanted)


class Version(ResourceType):
    """Ref: its ARN. Version, FunctionArn."""

    type = "AWS::Lambda::Version"
    attributes = frozenset({"Version", "FunctionArn"})
    known = frozenset({"FunctionName", "Description", "CodeSha256", "ProvisionedConcurrencyConfig", "RuntimePolicy"})
    required = frozenset({"FunctionName"})
    replacing = known

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        client = clients.get("lambda")
        made = client.publish_version(**only(properties, "FunctionName", "Description", "CodeSha256"))
        if provisioned := properties.get("ProvisionedConcurrencyConfig"):
            client.put_provisioned_concurrency_config(
                FunctionName=properties["FunctionName"],
                Qualifier=made["Version"],
                ProvisionedConcurrentExecutions=int(provisioned["ProvisionedConcurrentExecutions"]),
            )
        return _version(made)

    def delete(self, clients: Clients, held: Held) -> None:
        clients.get("lambda").delete_function(FunctionName=held.physical_id)

    def find(self, clients: Clients, held: Held) -> Made | None:
        if not held.physical_id:
            return None  # publishing again what has not changed gives the same version
        client = clients.get("lambda")
        found = answer_of(client.get_function_configuration, FunctionName=held.physical_id)
        return _version(found) if found else None


class LayerVersion(ResourceType):
    """Ref: its ARN. LayerVersionArn."""

    type = "AWS::Lambda::LayerVersion"
    attributes = frozenset({"LayerVersionArn"})
    known = frozenset(
        {"CompatibleArchitectures", "CompatibleRuntimes", "Content", "Description", "LayerName", "LicenseInfo"}
    )
    required = frozenset({"Content"})
    replacing = known

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        client = clients.get("lambda")
        content = code_of(clients, {"Code": properties["Content"]})
        wanted = {
            **only(properties, "CompatibleArchitectures", "CompatibleRuntimes", "Description", "LicenseInfo"),
            "LayerName": properties.get("LayerName", name),
            "Content": content,
        }
        return _layer(client.publish_layer_version(**shaped(client, "PublishLayerVersion", wanted)))

    def delete(self, clients: Clients, held: Held) -> None:
        layer, _, version = held.physical_id.rpartition(":")
        clients.get("lambda").delete_layer_version(LayerName=layer, VersionNumber=int(version))

    def find(self, clients: Clients, held: Held) -> Made | None:
        client = clients.get("lambda")
        if held.physical_id:
            found = answer_of(client.get_layer_version_by_arn, Arn=held.physical_id)
            return _layer(found) if found else None
        name = held.properties.get("LayerName", held.name)
        for listed in client.list_layer_versions(LayerName=name, MaxItems=1)["LayerVersions"]:
            newest = client.get_layer_version(LayerName=name, VersionNumber=listed["Version"])
            digest = base64.b64decode(newest["Content"]["CodeSha256"]).hex()
            if digest == held.properties["Content"].get("S3Key"):
                return _layer(newest)
        return None


def code_of(clients: Clients, properties: Mapping[str, Any]) -> dict[str, Any]:
    """The Code of the API for that of a template: local archives and inline text as bytes, images built and pushed."""
    code = properties["Code"]
    if code.get("S3Bucket") == LOCAL_BUCKET:
        return {"ZipFile": clients.archives.zips[code["S3Key"]]}
    if "ZipFile" in code:
        is_python = str(properties.get("Runtime", "")).startswith("python")
        return {"ZipFile": zip_text("index.py" if is_python else "index.js", code["ZipFile"])}
    if build := clients.builds.get(code.get("ImageUri", "")):
        build.run()
    return dict(code)


def _configuration(properties: Mapping[str, Any]) -> dict[str, Any]:
    wanted = only(properties, *_CONFIGURATION)
    if "KmsKeyArn" in properties:
        wanted["KMSKeyArn"] = properties["KmsKeyArn"]
    return wanted


def _package_type(properties: Mapping[str, Any]) -> str:
    return str(properties.get("PackageType") or ("Image" if "ImageUri" in properties["Code"] else "Zip"))


def _await(client: Any, state: str, name: str) -> None:
    client.get_waiter(state).wait(FunctionName=name, WaiterConfig={"Delay": 0.5, "MaxAttempts": 600})


def _tag(client: Any, arn: str, old: Mapping[str, str], new: Mapping[str, str]) -> None:
    if gone := sorted(old.keys() - new.keys()):
        client.untag_resource(Resource=arn, TagKeys=gone)
    if old != new and new:
        client.tag_resource(Resource=arn, Tags=dict(new))


def _version(told: Mapping[str, Any]) -> Made:
    arn = told["FunctionArn"]
    return Made(arn, {"Version": told["Version"], "FunctionArn": arn})


def _layer(told: Mapping[str, Any]) -> Made:
    return Made(told["LayerVersionArn"], {"LayerVersionArn": told["LayerVersionArn"]})
