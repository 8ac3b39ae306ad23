"""What each problem means and what to do about it: the pages to which `type` points."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from api.problems.problem import Problem

router = APIRouter(prefix="/v1/problems", tags=["Problems"], responses={"default": {}})


class Page(NamedTuple):
    title: str
    meaning: str
    remedy: str


_AGAIN = "Repeat the request with the same Idempotency-Key after the time in Retry-After."
_READ = "Read the order again, and decide on what it is now."
_OTHER = "Change the field that `errors` points to."

PAGES: dict[str, Page] = {
    # The request cannot be understood.
    "malformed-request": Page(
        "Malformed request",
        "The body, a parameter or a header is not what this route takes.",
        "Each entry of `errors` names one thing, and says how to change it.",
    ),
    "body-too-large": Page(
        "Body too large",
        "The body has more bytes than any command needs.",
        "Send less in one request: fewer lines at first, and the others with add-item-to-order.",
    ),
    "unsupported-media-type": Page(
        "Unsupported media type",
        "The body is declared to be something else than JSON.",
        "Send JSON, with Content-Type: application/json and without a Content-Encoding.",
    ),
    "body-too-slow": Page(
        "Body too slow",
        "The body did not arrive in the time that there is for it; nothing of it was carried out.",
        "Repeat the request with the same Idempotency-Key, over a better connection.",
    ),
    "invalid-http": Page(
        "Invalid HTTP",
        "What came is no HTTP request, or contradicts itself about where it ends.",
        "Use a client that keeps to RFC 9112; look at what stands between it and the service.",
    ),
    "head-too-large": Page(
        "Head too large",
        "The request has more or longer headers than any request needs.",
        "Send fewer headers; `detail` says how many there may be.",
    ),
    "head-too-slow": Page(
        "Head too slow",
        "The head of the request did not arrive in the time that there is for it.",
        "Repeat the request, over a better connection.",
    ),
    "invalid-cursor": Page(
        "Invalid cursor",
        "The cursor is none that a page answered, or it belongs to another sort.",
        "Take `next` as it was answered, with the same sort; or begin again without a cursor.",
    ),
    "invalid-consistency-token": Page(
        "Invalid consistency token",
        "The token is none that a command answered.",
        "Take `consistency_token` of a command's answer as it is.",
    ),
    "not-found": Page(
        "Not found", "There is nothing at this path.", "See /docs for all paths that there are."
    ),
    "method-not-allowed": Page(
        "Method not allowed",
        "The path is right, but it does not take this method.",
        "The Allow header says which it takes.",
    ),
    "http-error": Page(
        "HTTP error",
        "The request breaks a rule of HTTP itself.",
        "The status and `detail` say which one.",
    ),
    "unknown-order": Page(
        "Unknown order",
        "There is no order with this id, or none that is yours to see.",
        "Use the Location that opening the order answered.",
    ),
    "unknown-command": Page(
        "Unknown command",
        "No such command was left with this order, or it changed nothing so long ago that this is "
        "forgotten. Nothing of it has happened.",
        "Use the Location that the 202 answered; or send the command again under the same key.",
    ),
    "idempotency-key-reused": Page(
        "Idempotency key reused",
        "The key came with another payload before, and names that request for ever.",
        "Take a new key for a new request; send the very same payload to repeat the old one.",
    ),
    "bad-signature": Page(
        "Bad signature",
        "A callback is not signed with our secret, or its time is minutes off.",
        "Sign as Standard Webhooks has it, with the secret in ORDERLY_WEBHOOK_SECRET.",
    ),
    # A rule says no.
    "version-conflict": Page(
        "Version conflict",
        "The order is at another version than If-Match says: something else came between.",
        f"{_READ} `current_version` is its version.",
    ),
    "not-allowed-now": Page(
        "Not allowed now",
        "The order's status does not admit this command.",
        f"`allowed_commands` says which it admits. {_READ}",
    ),
    "no-lines": Page(
        "No lines", "An order without lines cannot be placed.", "Add an item to the order first."
    ),
    "unknown-id": Page(
        "Unknown id",
        "The order has nothing by the id that the command names.",
        f"{_OTHER} Reading the order shows the ids that it has.",
    ),
    "id-already-used": Page(
        "Id already used",
        "The id names something else in this order already, or did before that was removed.",
        "Take a new id, or leave it out: then the order makes one.",
    ),
    "other-currency": Page(
        "Other currency",
        "An order has one currency, and this amount is in another.",
        "Leave `currency` out, or send the amount in the order's own.",
    ),
    "discount-exceeds-price": Page(
        "Discount exceeds price",
        "The discounts are more than the line costs.",
        "Make the discount smaller, or take a part of the order's own discounts away first.",
    ),
    "discounts-exceed-total": Page(
        "Discounts exceed total",
        "The discounts are more than the whole order costs.",
        "Make the discount smaller, or remove discounts first.",
    ),
    "total-too-large": Page(
        "Total too large",
        "The order would come to more than one order can.",
        "Split it into several orders.",
    ),
    "too-many-lines": Page(
        "Too many lines",
        "The order holds as many lines as one order can.",
        "Raise the quantity of a line that is there, or open another order.",
    ),
    "too-many-discounts": Page(
        "Too many discounts",
        "The order holds as many discounts as one order can.",
        "Remove some, or apply one discount over all.",
    ),
    "too-many-notes": Page(
        "Too many notes",
        "The order holds as many notes as one order can.",
        "Keep further notes elsewhere.",
    ),
    "too-many-pieces": Page(
        "Too many pieces",
        "The command is about more pieces of a line than there are for it.",
        f"{_OTHER} `detail` says how many there are.",
    ),
    "order-too-large": Page(
        "Order too large",
        "The order holds as much as one order can.",
        "Open another order for what is to be added.",
    ),
    "no-shortfall": Page(
        "No shortfall",
        "The order does not wait for an answer to a shortfall.",
        f"{_READ} The answer may have come already, or its time is over.",
    ),
    "no-declined-payment": Page(
        "No declined payment",
        "No payment of the order was declined, so there is none to try again.",
        _READ,
    ),
    "payment-pending": Page(
        "Payment pending",
        "No shipment can be made before the payment is authorised.",
        "Wait until the order is confirmed; if `awaits` is payment, the customer has to act.",
    ),
    "exceeds-authorised": Page(
        "Exceeds authorised",
        "More is to be captured than is authorised and not captured yet.",
        "Capture at most what `detail` says.",
    ),
    "exceeds-captured": Page(
        "Exceeds captured",
        "More is to be refunded than was captured and is not due back already.",
        "Refund at most what `detail` says.",
    ),
    "already-shipped": Page(
        "Already shipped",
        "The pieces have left, or were called off already.",
        "Call off what is still here with cancel-lines; for what has left, request a return.",
    ),
    "not-in-one-place": Page(
        "Not in one place",
        "The pieces are at several stock locations, and a shipment leaves from one.",
        "Create one shipment for each location.",
    ),
    "shipment-stopped": Page(
        "Shipment stopped",
        "The shipment is not planned any more: it was stopped, or has left.",
        _READ,
    ),
    "shipment-changing": Page(
        "Shipment changing",
        "The carrier has not confirmed the shipment's latest change yet.",
        "Send the command again in a moment.",
    ),
    "shipment-not-dispatched": Page(
        "Shipment not dispatched",
        "The shipment is not on its way, so it can neither arrive nor get lost.",
        "Say with dispatch-shipment that it has left, if it has.",
    ),
    "return-window-closed": Page(
        "Return window closed",
        "The time in which goods could be returned is over.",
        "Grant a refund without a return, if you want to: refund-payment.",
    ),
    "return-decided": Page("Return decided", "The return was approved or rejected before.", _READ),
    "return-not-approved": Page(
        "Return not approved",
        "Goods are taken back only of an approved return.",
        "Approve the return first.",
    ),
    "return-received": Page("Return received", "All pieces of the return came back before.", _READ),
    # Who may.
    "unauthenticated": Page(
        "Unauthenticated",
        "The request has no token, or one that cannot be believed; `detail` says what is wrong.",
        "Send Authorization: Bearer and a token that the service's issuer has signed for it.",
    ),
    "insufficient-scope": Page(
        "Insufficient scope",
        "The token is good, but does not allow this.",
        "Get a token with the scope that WWW-Authenticate names.",
    ),
    "not-for-customers": Page(
        "Not for customers",
        "A customer's token may not send this command, or not for another customer.",
        "Have the shop do it, with a token that has the scope orders:operate.",
    ),
    "keys-unavailable": Page(
        "Keys unavailable",
        "The keys that tokens are signed with cannot be had, so no new token can be checked.",
        "Repeat the request after the time in Retry-After.",
    ),
    # The past, and the feed.
    "unknown-version": Page(
        "Unknown version",
        "The order has not had that many versions; `current_version` is its last.",
        "Ask for a version from 1 to that one.",
    ),
    "not-open-yet": Page(
        "Not open yet",
        "The order was opened after the instant that was asked for; `detail` says when.",
        "Ask for an instant from then on.",
    ),
    "event-unreadable": Page(
        "Event unreadable",
        "The order has an event that this version of the service does not know yet.",
        "Ask again once all of the service is up to date, or read the order as it is now.",
    ),
    "unknown-schema": Page(
        "Unknown schema",
        "No type and version of events has this name.",
        "Take the address from the `dataschema` of an event; /v1/schemas lists all.",
    ),
    "too-many-streams": Page(
        "Too many streams",
        "As many live streams are open as one process of the service keeps.",
        "Come back after the time in Retry-After, or read the feed page by page.",
    ),
    # Not now.
    "too-busy": Page(
        "Too busy",
        "More commands are under way than can be taken, over all or to this one order.",
        _AGAIN,
    ),
    "overloaded": Page(
        "Overloaded",
        "As much is under way as this process can do well; nothing of this request was done.",
        _AGAIN,
    ),
    "rate-limited": Page(
        "Rate limited",
        "The caller sends more requests than its share; RateLimit says what is left of that.",
        "Wait for the time in Retry-After, and spread requests more evenly.",
    ),
    "log-behind": Page(
        "Log behind",
        "So much of the order is not yet published that it takes nothing more for now.",
        _AGAIN,
    ),
    "order-reopening": Page(
        "Order reopening", "The order had ended and is being opened again.", _AGAIN
    ),
    "outcome-unknown": Page(
        "Outcome unknown",
        "The order has not answered in time. The command was carried out, will be, or never is.",
        f"{_AGAIN} Only that tells which. With Prefer: respond-async it is kept at once.",
    ),
    "engine-unavailable": Page(
        "Engine unavailable",
        "Temporal, which keeps the orders, cannot be reached. Reads go on.",
        _AGAIN,
    ),
    "storage-unavailable": Page(
        "Storage unavailable",
        "Postgres, which has the log and the read models, cannot be reached or is being upgraded.",
        "Repeat the request after the time in Retry-After.",
    ),
    "projection-behind": Page(
        "Projection behind",
        "The read model has not come as far as the request asks for.",
        "Ask again after the time in Retry-After, or take what there is without asking for more.",
    ),
    "callbacks-not-configured": Page(
        "Callbacks not configured",
        "The service has no secret by which it could believe a callback.",
        "Set ORDERLY_WEBHOOK_SECRET; until then senders keep what they have to tell.",
    ),
    "internal-error": Page(
        "Internal error",
        "This is our mistake. Whether the command was carried out is unknown.",
        "Repeat it with the same Idempotency-Key; tell us the request_id, if that does not help.",
    ),
}


class ProblemPage(BaseModel):
    """What a code means, and what to do about it."""

    type: str
    code: str
    title: str
    meaning: str
    remedy: str


class ProblemPages(BaseModel):
    """Every code that there is."""

    items: list[ProblemPage]


def type_of(code: str) -> str:
    """The address of a code's page, as RFC 9457 wants it in `type`: relative to the request."""
    return f"/v1/problems/{code}"


def title_of(code: str) -> str:
    return PAGES[code].title if code in PAGES else code


@router.get("", summary="All problems that there are", response_model=ProblemPages)
async def list_problems(request: Request) -> Response:
    """Every code, what it means and what to do about it; HTML for a browser, else JSON."""
    pages = [_page(code) for code in sorted(PAGES)]
    if _wants_html(request):
        links = (f'<li><a href="{p.type}">{p.code}</a>: {escape(p.meaning)}' for p in pages)
        return _html("Problems", f"<ul>{''.join(links)}</ul>")
    return _json(ProblemPages(items=pages))


@router.get("/{code}", summary="What a problem means", response_model=ProblemPage)
async def get_problem(request: Request, code: str) -> Response:
    """What a code means and what to do about it; HTML for a browser, else JSON."""
    if code not in PAGES:
        raise Problem(404, "not-found", "There is no such problem; /v1/problems lists all.")
    page = _page(code)
    if _wants_html(request):
        text = f"<p><code>{page.code}</code></p><p>{escape(page.meaning)}</p>"
        return _html(page.title, f"{text}<p>{escape(page.remedy)}</p>")
    return _json(page)


def _page(code: str) -> ProblemPage:
    return ProblemPage(type=type_of(code), code=code, **PAGES[code]._asdict())


def _wants_html(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _html(title: str, body: str) -> Response:
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
    return HTMLResponse(f"{head}<h1>{title}</h1>{body}</html>", headers={"Vary": "Accept"})


def _json(body: BaseModel) -> Response:
    headers = {"Vary": "Accept"}
    return Response(body.model_dump_json(), headers=headers, media_type="application/json")
