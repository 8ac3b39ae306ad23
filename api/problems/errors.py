"""Errors that are raised below HTTP; `handlers.py` maps each to a problem type.

    ServiceError
    ├── UnknownOrder            the order does not exist, or belongs to another customer
    ├── IdempotencyKeyReused    the same key with another payload
    ├── Unavailable             nothing was changed, or repeating the request tells
    │   ├── TemporalUnavailable
    │   ├── StorageUnavailable
    │   ├── JwksUnavailable
    │   ├── IdentityProviderUnavailable
    │   ├── OutcomeUnknown      the order did not respond in time
    │   └── OrderOrphaned       its workflow was ended from outside, and cannot be read
    └── LimitExceeded           nothing was changed
        ├── Overloaded          the concurrency limit of this process
        ├── TooManyCommands     the limit of Temporal, or of one order
        ├── TooManyStreams
        └── RateLimited

Three kinds of errors stand outside the tree. `Problem` is raised where the request itself is at
fault, and is an HTTP response already. `workflows.command_handler.Rejected` is an order's no; the
route that sent the command adds which part of the request it concerns. `BodyRejected` is raised
while the body is read, where FastAPI passes on nothing but an HTTPException.
"""

from __future__ import annotations


class ServiceError(Exception):
    """The service cannot do what the request asks for."""


class UnknownOrder(ServiceError):
    """The order does not exist, or belongs to another customer: the two look the same."""

    def __init__(self, order_id: str) -> None:
        super().__init__(order_id)
        self.order_id = order_id


class IdempotencyKeyReused(ServiceError):
    """The key identifies an earlier request with another payload."""


class Unavailable(ServiceError):
    """Something that the service needs does not respond."""


class TemporalUnavailable(Unavailable):
    """Temporal cannot be reached, or does not respond."""


class StorageUnavailable(Unavailable):
    """Postgres cannot be reached, or does not respond."""


class JwksUnavailable(Unavailable):
    """A token cannot be verified: its key is unknown and the issuer does not respond."""


class IdentityProviderUnavailable(Unavailable):
    """People cannot sign in: the issuer does not respond, or not as OpenID Connect says."""


class OutcomeUnknown(Unavailable):
    """The order did not respond in time: the command may or may not be executed."""


class OrderOrphaned(Unavailable):
    """The order's workflow was ended from outside, and its last state cannot be read."""


class LimitExceeded(ServiceError):
    """The request was rejected to protect the service; it changed nothing."""


class Overloaded(LimitExceeded):
    """This process has reached its concurrency limit."""


class TooManyCommands(LimitExceeded):
    """Temporal is at its limit, or too many commands of the order are waiting for a worker."""


class TooManyStreams(LimitExceeded):
    """This process has reached its limit of open event streams."""


class RateLimited(LimitExceeded):
    """The caller has exceeded its rate limit."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after
