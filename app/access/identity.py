"""Who is asking, and what they may do.

Every request that reaches a handler carries an :class:`Asker`, which the gate (:mod:`app.access.gate`) puts into its
scope. Whoever logs people in puts an :class:`Identity` there before the gate sees the request, under ``IDENTITY``;
where nobody does, the deployment says what visitors may do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from gradio.context import LocalContext

from a3tune.errors import RequestError
from app.engine.ids import OwnerId

Role = Literal["viewer", "tuner", "operator"]

ROLES: tuple[Role, ...] = ("viewer", "tuner", "operator")
"""From the one who may least: a viewer asks, a tuner also tunes, an operator also changes what all share."""

IDENTITY, ASKER = "a3tune.identity", "a3tune.asker"
"""Where a request's scope holds the identity that a login found, and who asks."""


class Identity(NamedTuple):
    """Somebody, as far as is known.

    Attributes:
        role: what they may do.
        owner: whose folder is theirs; None where their browser's own secret names it.
    """

    role: Role
    owner: OwnerId | None = None


class Asker(NamedTuple):
    """Who makes a request.

    Attributes:
        identity: who that is.
        visit: names the visit that the request belongs to; "" before it has one.
        keeps_under: takes note of a name under which the visit keeps things, which end with it.
    """

    identity: Identity
    visit: str = ""
    keeps_under: Callable[[OwnerId], None] = lambda owner: None


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


def check_visit(visit: str) -> bool:
    """Whether whoever asks may reach what belongs to a visit; the program itself may reach all."""
    asker = asking()
    return asker is None or asker.visit == visit


def visit_of_asker() -> str:
    """The visit of whoever asks; "" where the program itself is at work."""
    asker = asking()
    return "" if asker is None else asker.visit
