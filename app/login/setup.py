"""Puts the login together from its settings."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping

from starlette.middleware import Middleware

from app.access.deployment import Deployment
from app.access.identity import Identity
from app.access.origins import Hosts
from app.login.middleware import Audit, Front, Way
from app.login.people import People
from app.login.provider import Provider
from app.login.settings import LoginSettings
from app.login.signing_in import ByPassword, ByProvider, ByProxy


def login_middleware(
    settings: LoginSettings,
    deployment: Deployment,
    hosts: Hosts,
    root_path: str,
    left: Callable[[Identity], None],
    audit: Audit,
    environment: MutableMapping[str, str],
) -> Middleware:
    """What has to stand in front of the gate.

    Args:
        settings: how people log in.
        deployment, hosts, root_path: see :class:`app.login.middleware.Front`.
        left: told of the login of somebody who signed out.
        audit: takes note.
        environment: the process's own.

    Raises:
        RequestError: the file of passwords is none.
    """
    # The server would put the address that a proxy names in the place of the proxy's own, which is checked here.
    environment["FORWARDED_ALLOW_IPS"] = ""
    others = settings, deployment, left, audit
    way: Way
    if settings.kind == "oidc" and settings.oidc is not None:
        way = ByProvider(Provider(settings.oidc), *others)
    elif settings.kind == "password":
        way = ByPassword(People(settings.people), *others)
    else:
        way = ByProxy(settings)
    return Middleware(Front, way, settings, deployment, hosts, root_path)
