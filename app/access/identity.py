"""Who is asking, and what they may do.

Every request that reaches a handler carries an :class:`Asker`, which the gate (:mod:`app.access.gate`) puts into its
scope. Whoever logs people in puts an :class:`Identity` there before the gate sees the request, under ``IDENTITY``;
where nobody does, the deployment says what visitors may do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

from gradio.context import LocalContext

from a3tune.errors import RequestError
from app.engine.ids import OwnerId

Role = Literal["viewer", "tuner", "operator"]

ROLES: tuple[Role, ...] = get_args(Role)
"""From the one who may least: a viewer asks, a tuner also tunes, an operator also changes what all share."""

IDENTITY, ASKER = "a3tune.identity", "a3tune.asker"
"""Where a request's scope holds the identity that a login found, and who asks."""


class Identity(NamedTuple):
    """Somebody, as far as is known.

    Attributes:
        role: what they may do.
        owner: whose folder is theirs; None where their browser's own secret names it.
        issuer, subject: who says who they are, and the name that it knows them by and gives nobody else; "" where
            nobody logged in. An address of theirs is none: it may pass to somebody else.
        name: what they are called on the page; it identifies nobody.
        session: names the login that the request belongs to; "" where every request says who asks.
    """

    role: Role
    owner: OwnerId | None = None
    issuer: str = ""
    subject: str = ""
    name: str = ""
    session: str = ""


def known_person(role: Role, issuer: str, subject: str, name: str = "") -> Identity:
    """Somebody whom an issuer knows; their folder is named by issuer and subject alone."""
    both = json.dumps([issuer, subject]).encode()
    return Identity(role, OwnerId(hashlib.sha256(b"person " + both).hexdigest()[:40]), issuer, subject, name)


class Asker(NamedTuple):
    """Who makes a request.

    Attributes:
        identity: who that is.
        visit: names the visit that the request belongs to; "" before it has one.
        keeps_under: takes note of a name under which the visit keeps things, which end with it.
        audit: takes note of what they do: an act and the plain facts of it.
        unheard: whether their page does not listen for answers that it asked for.
    """

    identity: Identity
    visit: str = ""
    keeps_under: Callable[[OwnerId], None] = lambda owner: None
    audit: Callable[[str, dict[str, Any]], None] = lambda act, facts: None
    unheard: Callable[[], bool] = lambda: False


def asking() -> Asker | None:
    """Who makes the request that is being answered; None where the program itself is at work."""
    request = LocalContext.request.get(None)
    # Gradio's own request wraps that of the server for events, not for server functions.
    scope = getattr(getattr(request, "request", request), "scope", None)
    return None if scope is None else scope.get(ASKER)


def require(role: Role, what: str) -> None:
    """Check that whoever asks may do something; the program itself may do all.

    Args:
        role: the least that it takes.
        what: what is to be done, in words.

    Raises:
        RequestError: they may not.
    """
    asker = asking()
    if asker is not None and ROLES.index(asker.identity.role) < ROLES.index(role):
        raise RequestError(
            expected=f"the role {role} to {what}",
            got=f"You are here as a {asker.identity.role}",
            remedy="Ask whoever runs this server, or run the application on a machine of your own",
        )


def audit(act: str, **facts: Any) -> None:
    """Have it noted, before it is done, that whoever asks does something.

    Args:
        act: what, one of :data:`app.server.audit.ACTS`.
        facts: of what: kinds, keys and numbers; no question, answer, image, title or file name.

    Raises:
        RequestError: it cannot be noted, and so may not be done.
    """
    asker = asking()
    if asker is not None:
        asker.audit(act, facts)


def check_visit(visit: str) -> bool:
    """Whether whoever asks may reach what belongs to a visit; the program itself may reach all."""
    asker = asking()
    return asker is None or asker.visit == visit


def visit_of_asker() -> str:
    """The visit of whoever asks; "" where the program itself is at work."""
    asker = asking()
    return "" if asker is None else asker.visit
