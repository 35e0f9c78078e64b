"""The service model that routes, parsing, validation and rendering are made from, with its few corrections."""

from __future__ import annotations

from functools import cache
from typing import Any

from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel

API_VERSION = "2015-03-31"


@cache
def service_model() -> ServiceModel:
    """The model of the installed botocore, corrected where the service is recorded to behave differently."""
    description = Loader().load_service_model("lambda", "service-2", API_VERSION)
    _correct(description)
    return ServiceModel(description, "lambda")


@cache
def operation_model(name: str) -> OperationModel:
    """One operation. Raises botocore.model.OperationNotFoundError."""
    return service_model().operation_model(name)


def _correct(description: dict[str, Any]) -> None:
    shapes = description["shapes"]
    # 200 in the model, 204 on the wire (lambda.md §1.14).
    description["operations"]["DeleteFunction"]["http"]["responseCode"] = 204
    # The model's larger figures are those of managed instances and accelerators (lambda.md §1.1, §13.3).
    shapes["Timeout"]["max"] = 900
    shapes["EphemeralStorageSize"]["max"] = 10_240
    # Of a function, an unknown runtime is InvalidParameterValueException, not the front end's error (lambda.md §1.11).
    shapes["FunctionRuntime"] = {"type": "string"}
    for request in ("CreateFunctionRequest", "UpdateFunctionConfigurationRequest"):
        shapes[request]["members"]["Runtime"] = {"shape": "FunctionRuntime"}
