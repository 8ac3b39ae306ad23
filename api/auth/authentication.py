"""Authenticates callers by bearer token, and authorizes them by scope and by ownership of an order.

An operator's token is valid for all orders. The subject of a customer's token is the customer id,
and it is valid for that customer's orders only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError

from api.auth.ownership import assert_owned_by
from api.auth.permissions import OPERATE
from api.auth.tokens import InvalidToken, Token, Verifier
from api.context import context_of
from api.dependencies import services_of
from api.limits.load_shedding import without_slot
from api.limits.rate_limit import charge
from api.problems.errors import UnknownOrder
from api.problems.problem import insufficient_scope, unauthenticated
from api.problems.strict_route import StrictRoute
from orders.text import CustomerId, Id
from workflows.messages import CUSTOMER_ACTOR

_ORDER_ID: TypeAdapter[str] = TypeAdapter(Id)
_CUSTOMER_ID: TypeAdapter[str] = TypeAdapter(CustomerId)


def require_scope(scope: str) -> type[APIRoute]:
    """A route class that requires a token with `scope` that is valid for the order in the path.

    It authenticates before the body is read. FastAPI resolves dependencies only after it has read
    the body, so a dependency would come too late.
    """

    class SecuredRoute(StrictRoute):
        def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
            security = {"security": [{"bearer": [scope]}]}
            options["openapi_extra"] = {**(options.get("openapi_extra") or {}), **security}
            super().__init__(path, endpoint, **options)

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def authorize_and_handle(request: Request) -> Response:
                verifier = services_of(request.app).verifier
                if verifier is not None:
                    await _authorize(request, scope, verifier)
                return await handle(request)

            return authorize_and_handle

    return SecuredRoute


async def assert_owns_order(request: Request, order_id: str) -> None:
    """Raises UnknownOrder if the order does not exist, or belongs to another customer."""
    customer_id = context_of(request).customer_id
    if customer_id is None:
        return
    if not _is_valid(_ORDER_ID, order_id):
        raise UnknownOrder(order_id)
    services = services_of(request.app)
    await assert_owned_by(customer_id, order_id, services.pool, services.client)


def visible_customer_id(request: Request, customer_id: str | None) -> str | None:
    """The customer filter for a list: the caller's own id, or, for operators, the requested one.

    None selects all customers. A customer who requests another's orders gets none.
    """
    own = context_of(request).customer_id
    if own is None:
        return customer_id
    return own if customer_id in (None, own) else ""  # No customer has the empty id.


def identity_of(token: Token) -> dict[str, str]:
    """The fields of RequestContext that a token determines.

    Raises InvalidToken if its subject is not an operator's name or a customer id.
    """
    if OPERATE in token.scopes:
        # It is stored in every event.
        if not re.fullmatch(r"[\x21-\x7e]{1,255}", token.subject):
            raise InvalidToken("its subject (sub) is not a word of 1 to 255 plain characters")
        return {"actor": f"operator:{token.subject}"}
    if not _is_valid(_CUSTOMER_ID, token.subject):
        raise InvalidToken("its subject (sub) is not a customer id")
    return {"actor": f"{CUSTOMER_ACTOR}{token.subject}", "customer_id": token.subject}


async def _authorize(request: Request, scope: str, verifier: Verifier) -> None:
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise unauthenticated()
    try:
        with without_slot(request):  # The issuer's keys may have to be fetched.
            token = await verifier.verify(encoded.strip())
        identity = identity_of(token)
    except InvalidToken as error:
        raise unauthenticated(str(error)) from None
    charge(request, identity["actor"])
    if scope not in token.scopes:
        raise insufficient_scope(scope)
    context = replace(context_of(request), expires_at=token.expires_at, **identity)
    request.state.context = context
    if (order_id := request.path_params.get("order_id")) is not None:
        await assert_owns_order(request, order_id)


def _is_valid(id_type: TypeAdapter[str], text: str) -> bool:
    try:
        id_type.validate_python(text)
    except ValidationError:
        return False
    return True
