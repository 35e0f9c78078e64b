"""Credentials of execution roles, as the pool asks for them and as changes of functions call for them."""

from __future__ import annotations

from rie.environments.environment import credentials_needed_s
from rie.environments.pool_settings import CredentialsOf, no_credentials
from rie.errors import ServiceError
from rie.iam.roles import CANNOT_ASSUME, RoleCredentials
from rie.iam.sessions import Credentials
from rie.model.function import LATEST, Configuration, Function, FunctionKey
from rie.settings import Settings


def credentials_for_pool(roles: RoleCredentials | None, settings: Settings) -> CredentialsOf:
    """The pool's way to credentials: what a caller of Invoke hears when the role can't be assumed any more."""
    if roles is None:
        return no_credentials

    async def credentials_of(function: Function, configuration: Configuration) -> Credentials:
        if settings.auth and configuration.role.split(":")[4] != function.key.account:
            raise ServiceError("AccessDeniedException", CANNOT_ASSUME)  # stored when nobody was asked who he is
        try:
            return await roles.get(configuration.role, function.key.name, credentials_needed_s(configuration))
        except ServiceError as error:
            raise ServiceError("AccessDeniedException", error.message) from None

    return credentials_of


def fetch_ahead(roles: RoleCredentials, key: FunctionKey, version: str, function: Function | None) -> None:
    """So that the first environment of a function waits for nobody."""
    if function is None and version == LATEST:
        roles.forget(key.name)
    elif function is not None:
        roles.prepare(function.configuration.role, key.name)
