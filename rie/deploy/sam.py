"""SAM's resources made into CloudFormation's, by AWS's own translator."""

from __future__ import annotations

import copy
import json
import logging
import os
from collections.abc import Mapping
from typing import Any

from rie.deploy.template import Template, refuse
from rie.errors import SettingsError, TemplateInvalid


def expand(template: Template, document: dict[str, Any], values: Mapping[str, Any], region: str) -> dict[str, Any]:
    """The document with nothing of SAM in it. `values` are the parameters'. Raises TemplateInvalid."""
    if not template.is_sam:
        serverless = [
            f"{template.where(logical_id)}: {resource['Type']} wants `Transform: AWS::Serverless-2016-10-31`"
            for logical_id, resource in document["Resources"].items()
            if resource["Type"].startswith("AWS::Serverless::")
        ]
        refuse(template.path.name, serverless)
        return document
    try:
        from samtranslator.model.exceptions import ExceptionWithMessage, InvalidDocumentException
        from samtranslator.translator.transform import transform
    except ImportError:
        raise SettingsError("cannot deploy a SAM template: install it with `pip install 'rie[deploy]'`") from None

    logging.getLogger("samtranslator").setLevel(logging.CRITICAL)
    os.environ.setdefault("AWS_DEFAULT_REGION", region)  # it asks boto3 which partition this is
    try:
        given = {key: value for key, value in values.items() if not key.startswith("AWS::")}
        expanded = transform(copy.deepcopy(document), given, _ManagedPolicies(), passthrough_metadata=True)
    except InvalidDocumentException as error:
        refuse(template.path.name, [_told(template, cause) for cause in error.causes])
        raise
    except ExceptionWithMessage as error:
        raise TemplateInvalid(f"cannot deploy {template.path.name}: {error.message}") from None
    return dict(json.loads(json.dumps(expanded)))


def _told(template: Template, cause: Any) -> str:
    logical_id = getattr(cause, "_logical_id", None)
    return f"{template.where(logical_id)}: {cause.message}" if logical_id else str(cause.message)


class _ManagedPolicies:
    """AWS's managed policies by name: those the translator brings."""

    def load(self) -> dict[str, str]:
        return {}
