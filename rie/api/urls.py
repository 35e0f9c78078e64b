"""Function URLs: create, read, update, delete, list (lambda.md §9.1)."""

from __future__ import annotations

from rie.api.context import RequestContext
from rie.api.functions import addressed
from rie.api.paging import paged
from rie.api.parse import Params
from rie.api.views import View
from rie.arn import function_arn
from rie.functions.domain import Domain
from rie.functions.urls import UrlChange
from rie.model.function import FunctionKey
from rie.model.function_url import BUFFERED, Cors, FunctionUrl


def create_function_url_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """CreateFunctionUrlConfig: 201; InvokeMode only if it was asked for."""
    key, qualifier = addressed(context, params)
    url = domain.urls.create(key, qualifier, _change(params))
    view = _view(domain, key, qualifier, url)
    del view["LastModifiedTime"]
    return view


def get_function_url_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """GetFunctionUrlConfig."""
    key, qualifier = addressed(context, params)
    url = domain.urls.get(key, qualifier)
    return {**_view(domain, key, qualifier, url), "InvokeMode": url.invoke_mode or BUFFERED}


def update_function_url_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """UpdateFunctionUrlConfig: only the members that are given change."""
    key, qualifier = addressed(context, params)
    return _view(domain, key, qualifier, domain.urls.update(key, qualifier, _change(params)))


def delete_function_url_config(domain: Domain, context: RequestContext, params: Params) -> View:
    """DeleteFunctionUrlConfig: 204."""
    domain.urls.delete(*addressed(context, params))
    return {}


def list_function_url_configs(domain: Domain, context: RequestContext, params: Params) -> View:
    """ListFunctionUrlConfigs: the function's and its aliases'."""
    key, _ = addressed(context, params)
    page, last = paged("urls", params, domain.urls.of_function(key), lambda each: each[0] or "")
    return {
        "FunctionUrlConfigs": [
            {**_view(domain, key, qualifier, url), "InvokeMode": url.invoke_mode or BUFFERED} for qualifier, url in page
        ],
        "NextMarker": last,
    }


def _change(params: Params) -> UrlChange:
    given = params.get("Cors")
    cors = (
        None
        if given is None
        else Cors(
            allow_credentials=given.get("AllowCredentials"),
            allow_headers=_strings(given, "AllowHeaders"),
            allow_methods=_strings(given, "AllowMethods"),
            allow_origins=_strings(given, "AllowOrigins"),
            expose_headers=_strings(given, "ExposeHeaders"),
            max_age_s=given.get("MaxAge"),
        )
    )
    return UrlChange(params.get("AuthType"), params.get("InvokeMode"), cors)


def _strings(given: Params, name: str) -> tuple[str, ...] | None:
    return tuple(given[name]) if name in given else None


def _view(domain: Domain, key: FunctionKey, qualifier: str | None, url: FunctionUrl) -> View:
    return {
        "FunctionUrl": domain.urls.spelt(url, key.region),
        "FunctionArn": function_arn(key, qualifier),
        "AuthType": url.auth_type,
        "Cors": None if url.cors is None else _cors_view(url.cors),
        "CreationTime": url.created_at,
        "LastModifiedTime": url.modified_at,
        "InvokeMode": url.invoke_mode,
    }


def _cors_view(cors: Cors) -> View:
    lists = {
        "AllowHeaders": cors.allow_headers,
        "AllowMethods": cors.allow_methods,
        "AllowOrigins": cors.allow_origins,
        "ExposeHeaders": cors.expose_headers,
    }
    return {
        "AllowCredentials": cors.allow_credentials,
        **{name: None if values is None else list(values) for name, values in lists.items()},
        "MaxAge": cors.max_age_s,
    }
