"""The catalogue of problem types: each code with its status, its meaning and its remedy.

Responses, the OpenAPI document, and the pages behind `type` follow from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Annotated

from pydantic import WithJsonSchema
from typing_extensions import TypeAliasType

PATH = "/v1/problems"

# A client that receives one of these must know when to retry.
RETRYABLE_STATUSES = (429, 503)


class RouteKind(StrEnum):
    """What a route accepts, which decides the problems that it can answer with."""

    ANY = auto()
    SECURED = auto()
    """Requires a token."""
    CALLBACK = auto()
    """Requires a signature."""
    RESOURCE = auto()
    """Names something that may not exist."""
    CURSOR = auto()
    """Accepts a cursor or a token that the API issued."""
    COMMAND = auto()
    PRECONDITION = auto()
    """Accepts If-Match."""
    BODY = auto()
    SIGN_IN = auto()
    """Is for the console alone."""
    WEBHOOKS = auto()
    """Is about webhook endpoints."""


@dataclass(frozen=True)
class ProblemType:
    """One kind of problem; `code` is stable and meant for programs.

    `meaning` and `remedy` are for people: what happened, and what to do about it.
    """

    code: str
    status: int
    title: str
    meaning: str
    remedy: str
    on: tuple[RouteKind, ...] = ()
    """The routes whose documentation includes it; none: it can precede or replace any route."""
    retry_after: int | None = None
    """Seconds until a retry is worthwhile, unless a single response says otherwise."""

    def __post_init__(self) -> None:
        if (self.retry_after is not None) != (self.status in RETRYABLE_STATUSES):
            raise ValueError(f"{self.code}: 429 and 503 need retry_after, no other status has it")

    @property
    def uri(self) -> str:
        """The address of the page about it, relative to the request, as RFC 9457 allows."""
        return f"{PATH}/{self.code}"


_SAME_KEY = "Repeat the request with the same Idempotency-Key after the time in Retry-After."
_RETRY = "Repeat the request after the time in Retry-After."
_READ = "Read the order again, and decide on its current state."
_CHANGE = "Change the field that `errors` points to."

_SECURED = (RouteKind.SECURED,)

# The request is invalid.

MALFORMED_REQUEST = ProblemType(
    "malformed-request",
    422,
    "Malformed request",
    "The body, a parameter or a header does not match what this route accepts.",
    "Each entry of `errors` names one mistake and how to correct it.",
    (RouteKind.ANY,),
)
BODY_TOO_LARGE = ProblemType(
    "body-too-large",
    413,
    "Body too large",
    "The body has more bytes than any command needs.",
    "Send less in one request: fewer lines first, and the others with add-item-to-order.",
    (RouteKind.BODY,),
)
UNSUPPORTED_MEDIA_TYPE = ProblemType(
    "unsupported-media-type",
    415,
    "Unsupported media type",
    "The body is not declared as JSON.",
    "Send JSON, with Content-Type: application/json and without a Content-Encoding.",
    (RouteKind.BODY,),
)
BODY_TIMEOUT = ProblemType(
    "body-timeout",
    408,
    "Body timeout",
    "The body did not arrive within the time limit. Nothing of it was executed.",
    "Repeat the request with the same Idempotency-Key, over a better connection.",
    (RouteKind.BODY,),
)
INVALID_HTTP = ProblemType(
    "invalid-http",
    400,
    "Invalid HTTP",
    "The request is not valid HTTP, or contradicts itself about where it ends.",
    "Use a client that follows RFC 9112, and check the proxies between it and the service.",
)
HEADERS_TOO_LARGE = ProblemType(
    "headers-too-large",
    431,
    "Headers too large",
    "The request has more or longer headers than any request needs.",
    "Send fewer headers; `detail` gives the limits.",
)
HEADERS_TIMEOUT = ProblemType(
    "headers-timeout",
    408,
    "Headers timeout",
    "The headers of the request did not arrive within the time limit.",
    "Repeat the request, over a better connection.",
)
INVALID_CURSOR = ProblemType(
    "invalid-cursor",
    400,
    "Invalid cursor",
    "The API did not issue this cursor, or issued it for another sort.",
    "Send `next` exactly as the previous page returned it, with the same sort; or start without a "
    "cursor.",
    (RouteKind.CURSOR, RouteKind.WEBHOOKS),
)
INVALID_CONSISTENCY_TOKEN = ProblemType(
    "invalid-consistency-token",
    400,
    "Invalid consistency token",
    "The API did not issue this token.",
    "Send `consistency_token` exactly as a command returned it.",
    (RouteKind.CURSOR,),
)
NOT_FOUND = ProblemType(
    "not-found",
    404,
    "Not found",
    "There is nothing at this path.",
    "See /docs for all paths.",
    (RouteKind.RESOURCE, RouteKind.CALLBACK),
)
METHOD_NOT_ALLOWED = ProblemType(
    "method-not-allowed",
    405,
    "Method not allowed",
    "The path exists, but does not accept this method.",
    "The Allow header lists the methods that it accepts.",
)
HTTP_ERROR = ProblemType(
    "http-error",
    400,
    "HTTP error",
    "The request breaks a rule of HTTP.",
    "The status and `detail` say which one.",
)
UNKNOWN_ORDER = ProblemType(
    "unknown-order",
    404,
    "Unknown order",
    "There is no order with this id, or it belongs to another customer.",
    "Use the Location that was returned when the order was opened.",
    (RouteKind.RESOURCE, RouteKind.CALLBACK),
)
UNKNOWN_COMMAND = ProblemType(
    "unknown-command",
    404,
    "Unknown command",
    "The order never received this command, or rejected it too long ago to remember it. It changed "
    "nothing.",
    "Use the Location that the 202 returned; or send the command again with the same key.",
    (RouteKind.RESOURCE,),
)
IDEMPOTENCY_KEY_REUSED = ProblemType(
    "idempotency-key-reused",
    422,
    "Idempotency key reused",
    "The key was sent before with another payload, and identifies that request for good.",
    "Use a new key for a new request; repeat the earlier request with exactly the same payload.",
    (RouteKind.COMMAND,),
)
INVALID_SIGNATURE = ProblemType(
    "invalid-signature",
    401,
    "Invalid signature",
    "The callback is not signed with the shared secret, or its timestamp is minutes off.",
    "Sign as in Standard Webhooks, with the secret in ORDERLY_WEBHOOK_SECRET.",
    (RouteKind.CALLBACK,),
)

# Authentication and authorization.

UNAUTHENTICATED = ProblemType(
    "unauthenticated",
    401,
    "Unauthenticated",
    "The request has no token, or an invalid one; `detail` says what is wrong with it.",
    "Send Authorization: Bearer and a token that the service's issuer signed for it.",
    _SECURED,
)
INSUFFICIENT_SCOPE = ProblemType(
    "insufficient-scope",
    403,
    "Insufficient scope",
    "The token is valid, but does not allow this.",
    "Use a token with the scope that WWW-Authenticate names.",
    _SECURED,
)
NOT_FOR_CUSTOMERS = ProblemType(
    "not-for-customers",
    403,
    "Not for customers",
    "A customer's token cannot send this command, or not for another customer.",
    "Use a token with the scope orders:operate.",
    _SECURED,
)
SIGNING_KEYS_UNAVAILABLE = ProblemType(
    "signing-keys-unavailable",
    503,
    "Signing keys unavailable",
    "The issuer's public keys cannot be fetched, so new tokens cannot be verified.",
    _RETRY,
    _SECURED,
    retry_after=5,
)
SIGN_IN_REJECTED = ProblemType(
    "sign-in-rejected",
    400,
    "Sign-in rejected",
    "The identity provider did not accept the sign-in, or its answer is not one to this sign-in.",
    "Sign in again.",
    (RouteKind.SIGN_IN,),
)
IDENTITY_PROVIDER_UNAVAILABLE = ProblemType(
    "identity-provider-unavailable",
    503,
    "Identity provider unavailable",
    "The identity provider does not respond, or not as OpenID Connect says.",
    _RETRY,
    (RouteKind.SIGN_IN,),
    retry_after=5,
)

# Earlier versions, and the event feed.

UNKNOWN_VERSION = ProblemType(
    "unknown-version",
    404,
    "Unknown version",
    "The order has fewer versions; `current_version` is its latest.",
    "Request a version between 1 and that one.",
    (RouteKind.RESOURCE,),
)
NOT_OPEN_YET = ProblemType(
    "not-open-yet",
    404,
    "Not open yet",
    "The order was opened after the requested instant; `detail` says when.",
    "Request an instant after that.",
    (RouteKind.RESOURCE,),
)
UNKNOWN_SCHEMA = ProblemType(
    "unknown-schema",
    404,
    "Unknown schema",
    "No type and version of an event has this name.",
    "Use the `dataschema` of an event; /v1/schemas lists all.",
    (RouteKind.RESOURCE,),
)
UNKNOWN_EVENT = ProblemType(
    "unknown-event",
    404,
    "Unknown event",
    "The log has no event with this id, or it belongs to an order of another customer.",
    "Use the `id` of an event of the feed; or begin at an instant.",
    (RouteKind.RESOURCE,),
)
DIGEST_TOO_LARGE = ProblemType(
    "digest-too-large",
    422,
    "Digest too large",
    "The digest of this slice would have to be computed from the streams of too many orders.",
    "Name a smaller slice, with one more digit; or leave out customer_id.",
    (RouteKind.CURSOR,),
)
DIGESTS_BEHIND = ProblemType(
    "digests-behind",
    503,
    "Digests behind",
    "Digests are kept by the projector, which has not come as far: it does not run, or has just"
    " begun to keep them.",
    "Retry after the time in Retry-After, or ask for an earlier `until`.",
    (RouteKind.CURSOR,),
    retry_after=10,
)
TOO_MANY_STREAMS = ProblemType(
    "too-many-streams",
    429,
    "Too many streams",
    "This process has reached its limit of open event streams.",
    "Retry after the time in Retry-After, or read the feed page by page.",
    (RouteKind.CURSOR,),
    retry_after=5,
)

# Webhook endpoints.

UNKNOWN_ENDPOINT = ProblemType(
    "unknown-endpoint",
    404,
    "Unknown endpoint",
    "There is no webhook endpoint with this id; it may have been deleted.",
    "GET /v1/webhook-endpoints lists all.",
    (RouteKind.WEBHOOKS,),
)
UNKNOWN_DELIVERY = ProblemType(
    "unknown-delivery",
    404,
    "Unknown delivery",
    "The endpoint has no delivery with this id, or it is so old that it was deleted.",
    "Use a `delivery_id` of its list of deliveries; or replay the event by its id.",
    (RouteKind.WEBHOOKS,),
)
ENDPOINT_CHANGED = ProblemType(
    "endpoint-changed",
    412,
    "Endpoint changed",
    "The endpoint is not at the version in If-Match: it has changed meanwhile.",
    "Read the endpoint again, and decide on its current state. `current_version` is its version.",
    (RouteKind.PRECONDITION,),
)
URL_NOT_ALLOWED = ProblemType(
    "url-not-allowed",
    422,
    "URL not allowed",
    "Webhooks may not go to this URL: its host cannot be resolved, or has an address that is not"
    " public, or the URL has no TLS.",
    "Use an HTTPS URL with a public address; an operator of the service can allow networks with"
    " ORDERLY_ENDPOINT_NETWORKS.",
    (RouteKind.WEBHOOKS,),
)
TOO_MANY_ENDPOINTS = ProblemType(
    "too-many-endpoints",
    409,
    "Too many endpoints",
    "The service has reached its limit of webhook endpoints.",
    "Delete endpoints that are no longer needed.",
    (RouteKind.WEBHOOKS,),
)
TOO_MANY_REPLAYS = ProblemType(
    "too-many-replays",
    409,
    "Too many replays",
    "The endpoint has reached its limit of replays that have not come to their end.",
    "Wait until `health.replays` of the endpoint is lower; name several events in one replay.",
    (RouteKind.WEBHOOKS,),
)
EVENTS_NOT_SELECTED = ProblemType(
    "events-not-selected",
    409,
    "Events not selected",
    "Some of the events are not in the log, or the endpoint's filter does not select them.",
    "Leave out the events that `errors` points to, or change the filter first.",
    (RouteKind.WEBHOOKS,),
)
ENDPOINTS_NOT_CONFIGURED = ProblemType(
    "endpoints-not-configured",
    503,
    "Endpoints not configured",
    "The service has no key with which to seal the secrets of webhook endpoints.",
    "Set ORDERLY_ENDPOINT_KEY, the same for the API and the deliverer.",
    (RouteKind.WEBHOOKS,),
    retry_after=60,
)

# The service cannot serve the request now.

TOO_MANY_COMMANDS = ProblemType(
    "too-many-commands",
    429,
    "Too many commands",
    "Too many commands are in progress, overall or for this order. This one was not executed.",
    _SAME_KEY,
    (RouteKind.COMMAND, RouteKind.CALLBACK),
    retry_after=1,
)
OVERLOADED = ProblemType(
    "overloaded",
    503,
    "Overloaded",
    "This process has reached its concurrency limit. Nothing was changed.",
    _SAME_KEY,
    (RouteKind.ANY,),
    retry_after=1,
)
RATE_LIMITED = ProblemType(
    "rate-limited",
    429,
    "Rate limited",
    "The caller exceeded its rate limit; the RateLimit header says what is left of it.",
    "Wait for the time in Retry-After, and spread requests more evenly.",
    (RouteKind.ANY,),
    retry_after=1,
)
OUTCOME_UNKNOWN = ProblemType(
    "outcome-unknown",
    503,
    "Outcome unknown",
    "The order did not respond in time. The command may have been, may yet be, or may never be "
    "executed.",
    f"{_SAME_KEY} The response to that tells which. With Prefer: respond-async the command is "
    "stored at once.",
    (RouteKind.COMMAND, RouteKind.CALLBACK),
    retry_after=1,
)
ORDER_ORPHANED = ProblemType(
    "order-orphaned",
    503,
    "Order orphaned",
    "The order's workflow was ended from outside, and its last state cannot be read. Nothing was "
    "changed.",
    f"An operator continues the order with `orderly resume`. {_SAME_KEY}",
    (RouteKind.COMMAND, RouteKind.CALLBACK),
    retry_after=60,
)
TEMPORAL_UNAVAILABLE = ProblemType(
    "temporal-unavailable",
    503,
    "Temporal unavailable",
    "Temporal, which runs the orders, cannot be reached. Reads keep working.",
    _SAME_KEY,
    (RouteKind.COMMAND, RouteKind.CALLBACK),
    retry_after=1,
)
STORAGE_UNAVAILABLE = ProblemType(
    "storage-unavailable",
    503,
    "Storage unavailable",
    "Postgres, which stores the log and the read models, cannot be reached or is being upgraded.",
    _RETRY,
    _SECURED,
    retry_after=1,
)
PROJECTION_BEHIND = ProblemType(
    "projection-behind",
    503,
    "Projection behind",
    "The read model has not reached the version that the request requires.",
    "Repeat the request after the time in Retry-After, or accept the current state by requiring "
    "no version.",
    (RouteKind.CURSOR,),
    retry_after=1,
)
CALLBACKS_NOT_CONFIGURED = ProblemType(
    "callbacks-not-configured",
    503,
    "Callbacks not configured",
    "The service has no secret with which to verify callbacks.",
    "Set ORDERLY_WEBHOOK_SECRET; until then senders have to retry.",
    (RouteKind.CALLBACK,),
    retry_after=60,
)
INTERNAL_ERROR = ProblemType(
    "internal-error",
    500,
    "Internal error",
    "The service failed because of a bug. The command may or may not have been executed.",
    "Repeat it with the same Idempotency-Key; if that does not help, report the request_id.",
)

# Rejections by an order: RejectionCode (orders) and ShellCode (workflows) list the codes.


def _rejection(code: str, meaning: str, remedy: str) -> ProblemType:
    title = code.replace("-", " ").capitalize()
    return ProblemType(code, 409, title, meaning, remedy, (RouteKind.COMMAND, RouteKind.CALLBACK))


REJECTIONS = (
    ProblemType(
        "version-conflict",
        412,
        "Version conflict",
        "The order is not at the version in If-Match: it has changed meanwhile.",
        f"{_READ} `current_version` is its version.",
        (RouteKind.PRECONDITION,),
    ),
    ProblemType(
        "log-behind",
        503,
        "Log behind",
        "Too many events or commands of the order wait for the log, so it accepts no more for now.",
        _SAME_KEY,
        (RouteKind.COMMAND, RouteKind.CALLBACK),
        retry_after=1,
    ),
    ProblemType(
        "log-conflict",
        503,
        "Log conflict",
        "The log has other events of this order, so what it decides cannot be published. An"
        " operator has to settle that first; docs/operations.md says how.",
        _SAME_KEY,
        (RouteKind.COMMAND, RouteKind.CALLBACK),
        retry_after=60,
    ),
    ProblemType(
        "result-dropped",
        503,
        "Result dropped",
        "The order has executed so many commands that only the log knows whether this key is new,"
        " and the log cannot be read.",
        _SAME_KEY,
        (RouteKind.COMMAND, RouteKind.CALLBACK),
        retry_after=1,
    ),
    ProblemType(
        "order-reopening",
        503,
        "Order reopening",
        "The order had ended and is being reopened.",
        _SAME_KEY,
        (RouteKind.COMMAND, RouteKind.CALLBACK),
        retry_after=1,
    ),
    ProblemType(
        "not-known-yet",
        503,
        "Not known yet",
        "The service is being upgraded: the order still runs in a version that does not know this"
        " command, or a field of it. Nothing of the request was executed.",
        _SAME_KEY,
        (RouteKind.COMMAND, RouteKind.CALLBACK),
        retry_after=10,
    ),
    ProblemType(
        "event-unreadable",
        503,
        "Event unreadable",
        "A later version of the service wrote an event of this order, and the version that answers"
        " cannot read it.",
        "Repeat the request once the whole service is upgraded, or read the order's current state.",
        (RouteKind.RESOURCE, RouteKind.COMMAND, RouteKind.CALLBACK),
        retry_after=60,
    ),
    _rejection(
        "order-too-large",
        "The order has reached the size limit for what the command adds.",
        "Open another order for further lines; an operator has more room than a customer for "
        "notes, returns and cancellations.",
    ),
    _rejection(
        "batch-too-large",
        "The commands of the request cause too many events together.",
        "Send them in several requests of fewer commands.",
    ),
    _rejection(
        "not-allowed-now",
        "The order's status does not allow this command.",
        f"`allowed_commands` lists those that it allows. {_READ}",
    ),
    _rejection(
        "no-lines", "An order without lines cannot be placed.", "Add an item to the order first."
    ),
    _rejection(
        "unknown-id",
        "The order has nothing with the id that the command names.",
        f"{_CHANGE} Reading the order shows the ids that it has.",
    ),
    _rejection(
        "id-already-used",
        "The id already identifies something else in this order, or something since removed.",
        "Use a new id, or leave it out: then the order generates one.",
    ),
    _rejection(
        "currency-mismatch",
        "An order has one currency, and this amount is in another.",
        "Leave `currency` out, or send the amount in the order's currency.",
    ),
    _rejection(
        "discount-exceeds-price",
        "The discounts exceed the price of the line.",
        "Make the discount smaller, or remove a part of the order's discounts first.",
    ),
    _rejection(
        "discounts-exceed-total",
        "The discounts exceed the price of the whole order.",
        "Make the discount smaller, or remove discounts first.",
    ),
    _rejection(
        "total-too-large",
        "The order's total would exceed the limit.",
        "Split it into several orders.",
    ),
    _rejection(
        "too-many-lines",
        "The order has reached its limit of lines.",
        "Raise the quantity of an existing line, or open another order.",
    ),
    _rejection(
        "too-many-shipments",
        "The order has reached its limit of shipments.",
        "Send the remaining pieces in the shipments that the order has planned.",
    ),
    _rejection(
        "too-many-discounts",
        "The order has reached its limit of discounts.",
        "Remove some, or apply one discount over all.",
    ),
    _rejection(
        "too-many-notes",
        "The order has reached its limit of notes, which is lower for customers.",
        "An operator can add more notes than a customer. Keep further notes elsewhere.",
    ),
    _rejection(
        "too-many-pieces",
        "The command names more pieces of a line than are available for it.",
        f"{_CHANGE} `detail` says how many are available.",
    ),
    _rejection(
        "no-shortfall",
        "The order is not waiting for a decision on a shortfall.",
        f"{_READ} The decision may have been made already, or its deadline has passed.",
    ),
    _rejection(
        "outcome-not-possible",
        "The step or discrepancy cannot be settled with this outcome.",
        "Settle the step as done, or leave out `retry`.",
    ),
    _rejection(
        "settlement-incomplete",
        "Settling this step as done needs a field that says what the service did.",
        "Send the field that `errors` names.",
    ),
    _rejection(
        "no-declined-payment",
        "No payment of the order was declined, so there is none to retry.",
        _READ,
    ),
    _rejection(
        "payment-pending",
        "A shipment cannot be created before the payment is authorised.",
        "Wait until the order is confirmed; if `awaits` is payment, the customer has to act.",
    ),
    _rejection(
        "exceeds-authorised",
        "The amount exceeds what is authorised and not yet captured.",
        "Capture at most the amount in `detail`.",
    ),
    _rejection(
        "exceeds-captured",
        "The amount exceeds what was captured and is not already being refunded.",
        "Refund at most the amount in `detail`.",
    ),
    _rejection(
        "already-shipped",
        "The pieces have left already, or were cancelled.",
        "Cancel what has not left with cancel-lines; for what has left, request a return.",
    ),
    _rejection(
        "multiple-locations",
        "The pieces are at several stock locations, and a shipment leaves from one.",
        "Create one shipment for each location.",
    ),
    _rejection(
        "shipment-stopped",
        "The shipment is no longer planned: it was stopped, or has left.",
        _READ,
    ),
    _rejection(
        "shipment-changing",
        "The carrier has not yet confirmed the latest change to the shipment.",
        "Send the command again in a moment.",
    ),
    _rejection(
        "shipment-not-dispatched",
        "The shipment is not in transit, so it can neither arrive nor fail.",
        "Record with dispatch-shipment that it has left, if it has.",
    ),
    _rejection(
        "return-window-closed",
        "The time in which goods could be returned is over.",
        "To grant a refund without a return, use refund-payment.",
    ),
    _rejection("return-decided", "The return was already approved or rejected.", _READ),
    _rejection(
        "return-not-approved",
        "Goods can be received only for an approved return.",
        "Approve the return first.",
    ),
    _rejection("return-received", "All pieces of the return were already received.", _READ),
)


def unknown_rejection(code: str) -> ProblemType:
    """For a code of a worker that is newer than this process, during a deployment."""
    return _rejection(code, "A rule of the order rejects this command.", _READ)


_ALL = [*(value for value in globals().values() if isinstance(value, ProblemType)), *REJECTIONS]
PROBLEM_TYPES = {problem_type.code: problem_type for problem_type in _ALL}

ProblemCode = TypeAliasType(
    "ProblemCode", Annotated[str, WithJsonSchema({"type": "string", "enum": sorted(PROBLEM_TYPES)})]
)
