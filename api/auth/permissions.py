"""Permissions: a scope for each route, and a role for each command.

A token with the scope `orders:operate` is an operator's, and any other a customer's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from api.context import RequestContext
from api.problems.catalog import NOT_FOR_CUSTOMERS
from api.problems.problem import FieldError, Problem, rejected
from orders.commands import COMMAND_TYPES, Role, type_of
from workflows.messages import Rejection

READ, WRITE, OPERATE = "orders:read", "orders:write", "orders:operate"
SCOPES = {
    READ: "read orders (customers: only their own)",
    WRITE: "send commands (customers: only some, and only to their own orders)",
    OPERATE: "act as an operator",
}

COMMAND_ROLES: Mapping[str, Role] = {type_of(kind): kind.role for kind in COMMAND_TYPES}

SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "Scopes: " + "; ".join(f"`{name}`: {use}" for name, use in SCOPES.items()),
    }
}


def assert_allowed(context: RequestContext, commands: Iterable[str], opener: str | None) -> None:
    """Raises a Problem if the caller may not send one of the commands, given by type.

    `opener` is the customer for whom the first command opens an order, if it does.
    """
    own = context.customer_id
    if own is None:
        return
    if opener not in (None, own):
        raise Problem(
            NOT_FOR_CUSTOMERS,
            "A customer can open orders only for itself: customer_id must be the sub of its token.",
            errors=[FieldError(pointer="#/customer_id", code="not-own", detail="is another's")],
        )
    for command in commands:
        if COMMAND_ROLES.get(command) is not Role.CUSTOMER:
            raise Problem(
                NOT_FOR_CUSTOMERS,
                f"{command} is not for customers: it requires a token with the scope {OPERATE}.",
            )


def allowed_to(is_customer: bool, commands: list[str]) -> list[str]:
    """The commands that a customer, or an operator, may send, of those that the order allows."""
    if not is_customer:
        return commands
    return [command for command in commands if COMMAND_ROLES.get(command) is Role.CUSTOMER]


def rejected_for(context: RequestContext, rejection: Rejection, pointer: str) -> Problem:
    """The problem of a rejection, listing only the allowed commands that the caller may send."""
    return rejected(rejection, pointer, allowed_to(context.is_customer, rejection.allowed_commands))
