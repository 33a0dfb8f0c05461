"""The login in front of the gate, around a stand-in for Gradio that tells who reached it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.testclient import TestClient

from app.access.deployment import DEPLOYMENTS
from app.access.gate import Gate, Settings
from app.access.identity import ASKER
from app.access.origins import Hosts
from app.access.uploads import UploadFolder
from app.access.visits import Visits, login_visit
from app.login.settings import read_login
from app.login.setup import login_middleware
from tests.support.identity_provider import CLIENT, SECRET, identity_provider

SERVER = DEPLOYMENTS["server"]


class House:
    """A server with a login: its visits, what was noted, and browsers that come to it.

    Attributes:
        stream: called for each part of a long answer.
    """

    def __init__(self, folder, kind, variables, people="", root_path="", **limits) -> None:
        deployment = replace(SERVER, **limits)
        self.visits = Visits(deployment, UploadFolder(folder / "uploads"))
        self.noted, self.environment = [], {}
        self.stream = lambda: None
        hosts = Hosts(["studio.example"])
        settings = read_login(kind, "server", people, variables)

        def left(identity) -> None:
            self.visits.leave(login_visit(identity.session))

        gate = Gate(self._answer, Settings(hosts, root_path), self.visits)
        middleware = login_middleware(settings, deployment, hosts, root_path, left, self.note, self.environment)
        self.app = middleware.cls(gate, *middleware.args)

    def note(self, identity, act, facts) -> None:
        self.noted.append((act, identity.subject, facts))

    async def _answer(self, scope, receive, send) -> None:
        asker = scope[ASKER]
        if scope["path"].startswith("/gradio_api/queue/data"):

            async def parts():
                for _ in range(4):
                    self.stream()
                    yield b"data\n"

            await StreamingResponse(parts())(scope, receive, send)
            return
        known = {**asker.identity._asdict(), "visit": asker.visit, "client": scope["client"][0]}
        await JSONResponse({**known, "body": (await Request(scope, receive).body()).decode()})(scope, receive, send)

    def browser(self, client="203.0.113.7", base="http://localhost:7860", **headers) -> TestClient:
        """A new browser, which follows no redirect."""
        return TestClient(self.app, base, client=(client, 5000), headers=headers, follow_redirects=False)


@pytest.fixture
def house(tmp_path):
    """(kind, variables, ...) -> a server."""
    return lambda kind, variables, **options: House(tmp_path, kind, variables, **options)


@pytest.fixture
def provider():
    """An identity provider that keeps to the rules until a test changes it."""
    with identity_provider() as provider:
        yield provider


@pytest.fixture
def groups(provider):
    """The variables of a server that knows the provider."""
    return {
        "A3TUNE_OIDC_ISSUER": provider.issuer,
        "A3TUNE_OIDC_CLIENT": CLIENT,
        "A3TUNE_OIDC_SECRET": SECRET,
        "A3TUNE_VIEWERS": "students",
        "A3TUNE_TUNERS": "staff, research",
        "A3TUNE_OPERATORS": "admins",
    }
