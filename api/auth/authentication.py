"""Who calls: known by a bearer token, let in by its scopes, and to one's own orders alone.

An operator's token is for all orders. The subject of a customer's is the customer id, and to it
there are no orders but that customer's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError

from api.auth.ownership import assert_owned
from api.auth.permissions import OPERATE
from api.auth.tokens import InvalidToken, JwksUnavailable, Token, Verifier
from api.context import context_of
from api.dependencies import services_of
from api.limits.load_shedding import waiting
from api.limits.rate_limit import charge
from api.problems.errors import SigningKeysUnavailable, UnknownOrder
from api.problems.problem import insufficient_scope, unauthenticated
from orders.text import CustomerId

_ID = TypeAdapter(CustomerId)


def require_scope(scope: str) -> type[APIRoute]:
    """A route class that requires a token with `scope`, for a path's order that of its customer.

    It authenticates before the body is read. FastAPI resolves dependencies only after it has read
    the body, so a dependency would come too late.
    """

    class Guarded(APIRoute):
        def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
            security = {"security": [{"bearer": [scope]}]}
            options["openapi_extra"] = {**(options.get("openapi_extra") or {}), **security}
            super().__init__(path, endpoint, **options)

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_admitted(request: Request) -> Response:
                services = services_of(request.app)
                if services.verifier is not None:
                    await _admit(request, scope, services.verifier)
                return await handle(request)

            return handle_admitted

    return Guarded


async def assert_own(request: Request, order_id: str) -> None:
    """Raises the Problem of an order that there is not, if the order is not the caller's to see."""
    customer_id = context_of(request).customer_id
    if customer_id is None:
        return
    if not _is_id(order_id):
        raise UnknownOrder(order_id)
    services = services_of(request.app)
    await assert_owned(order_id, customer_id, services.pool, services.client)


def listed(request: Request, customer_id: str | None) -> str | None:
    """Whose orders a list shows to who asks for those of `customer_id`; None: everybody's.

    A customer who asks for another's gets those that match both: none.
    """
    own = context_of(request).customer_id
    if own is None:
        return customer_id
    return own if customer_id in (None, own) else ""  # Nobody has that id.


def identified(token: Token) -> dict[str, str]:
    """The RequestContext fields that a token sets; raises InvalidToken if it has no subject."""
    if OPERATE in token.scopes:
        # It goes into every event.
        if not re.fullmatch(r"[\x21-\x7e]{1,255}", token.subject):
            raise InvalidToken("its subject (sub) is not a word of 1 to 255 plain characters")
        return {"actor": f"operator:{token.subject}"}
    if not _is_id(token.subject):
        raise InvalidToken("its subject (sub) is not a customer id")
    return {"actor": f"customer:{token.subject}", "customer_id": token.subject}


async def _admit(request: Request, scope: str, verifier: Verifier) -> None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise unauthenticated()
    try:
        with waiting(request):  # Its key may have to be fetched.
            token = await verifier.verified(given.strip())
        who = identified(token)
    except InvalidToken as bad:
        raise unauthenticated(str(bad)) from None
    except JwksUnavailable:
        raise SigningKeysUnavailable from None
    charge(request, who["actor"])
    if scope not in token.scopes:
        raise insufficient_scope(scope)
    request.state.context = replace(context_of(request), good_until=token.good_until, **who)
    if (order_id := request.path_params.get("order_id")) is not None:
        await assert_own(request, order_id)


def _is_id(text: str) -> bool:
    try:
        _ID.validate_python(text)
    except ValidationError:
        return False
    return True
