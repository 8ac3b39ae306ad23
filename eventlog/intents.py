"""Intents: the inputs of an order as they were received, in the form that is stored.

An intent is a command batch, the result of a step, or a deadline that passed. Addresses in commands
are sealed, as in events. `eventlog/journal.py` stores them.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from eventlog.envelope import Ineffective, Metadata, NoOp
from orders.models import StoredModel

_FORMAT = 1
_DAMAGED = "a journal entry is damaged"
# Small, because a compressor that clears 256 kB takes longer than all else that a command needs.
_WINDOW_BITS, _MEMORY_LEVEL, _LEVEL = 14, 4, 6
_DICTIONARY = (
    b'"type":"deadline-passed","deadline":"return-window","at":"20"draft""payment-answer""capture"'
    b'"shortfall-answer""type":"step-failed","step_id":"","reason":" did not answer, so the outcome'
    b' is unknown cannot be reached: "type":"chargeback-reported","chargeback_id":"","state":"'
    b'"type":"authorisation-changed","authorisation_id":"","amount":,"reason":"'
    b'"type":"shipment-lost","shipment_id":"","goods":"returned","reason":"'
    b'"type":"report-delivery-failure""type":"set-billing-address","address":"sealed.1.'
    b'"type":"set-shipping-address","address":"sealed.1."type":"amend-order","amendment_id":"'
    b'","changes":[{"type":"change-line","line_id":"","quantity":{"type":"change-shipping-charge",'
    b'"type":"add-note","note_id":"","text":""type":"hold-order"}"type":"release-order"}'
    b'"type":"cancel-order","reason":""type":"cancel-lines","cancellation_id":"","lines":['
    b'"type":"request-return","return_id":"","lines":[{"line_id":"","quantity":1}],"reason":"'
    b'"type":"approve-return","return_id":""type":"receive-return","receipt_id":"","condition":"'
    b'sellable""type":"refund-payment","refund_id":"","amount":"type":"capture-payment"'
    b'"type":"retry-payment","method":"pm_card""type":"accept-shortfall"}"type":"retry-step"}'
    b'"type":"create-shipment","type":"dispatch-shipment","shipment_id":"shipment-","tracking":"'
    b'"type":"confirm-delivery","shipment_id":"shipment-"}],"expected_versions":['
    b'"metadata":{"actor":"customer:anonymouspaymentsshippingstock","command":"","command_id":"",'
    b'"payload_hash":"","request_id":"","traceparent":"00--01"}"rejection":{"code":"not-allowed-now'
    b'","message":" is not allowed while the order is ","index":0,"field":""}'
    b'"type":"shipment-arrived","shipment_id":"shipment-"type":"shipment-gone","shipment_id":"'
    b'shipment-","tracking":"","lines":["type":"stock-held","step_id":"reserve-","held":[{"line_id":'
    b'"","sku":"","location":"EAST","quantity":1},{"line_id":"","sku":"","location":"WEST",'
    b'"type":"payment-refused","step_id":"authorise-","reason":"the card was declined"'
    b'"type":"payment-approved","step_id":"authorise-","reference":"auth_"type":"booking-accepted",'
    b'"step_id":"book-","tracking":""type":"step-done","step_id":"capture-refund-void-withdraw-'
    b'release-restock-","operation":"capture","amount":{"messages":[{"type":"open-order",'
    b'"customer_id":"","currency":"USD","external_reference":"","policy":{"draft":604800,'
    b'"payment_retry":86400,"shortfall_answer":86400,"capture":518400,"return_window":2592000}},'
    b'{"type":"place-order","payment_method":"pm_card"}]}{"messages":[{"type":"add-item-to-order",'
    b'"line_id":"","sku":"","title":"","quantity":1,"unit_price":,"discount":0,"tax":0},'
)
"""What intents have in common. It is part of the format: another one needs another number."""


class UnreadableIntent(ValueError):
    """A journal entry that is damaged, or of a newer format."""


class RejectionReason(StoredModel):
    """Why a batch was rejected; `index` is that of the rejected command."""

    code: str
    message: str
    index: int = 0
    field: str | None = None


class Intent(StoredModel):
    """Messages to an order, as received: each with its type and the fields that its sender set."""

    messages: list[dict[str, Any]]
    expected_versions: list[int] | None = None
    metadata: Metadata | None = None
    """Of the sender, where no event has it."""
    rejection: RejectionReason | None = None
    is_shortened: bool = False
    """Only the types of the messages are left: they were too large for what changed nothing."""


def pack(intent: Intent, data: Mapping[str, Any] | None = None) -> str:
    """The intent, compressed, as text. It mostly repeats `data`, that of the first event."""
    text = intent.model_dump_json(exclude_none=True, exclude_defaults=True)
    if not text.isascii():  # Escaped as in the dictionary: otherwise nothing in it would match.
        text = json.dumps(json.loads(text), separators=(",", ":"))
    packer = zlib.compressobj(
        _LEVEL, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL, zlib.Z_DEFAULT_STRATEGY, _known(data)
    )
    packed = packer.compress(text.encode()) + packer.flush()
    return b64encode(bytes([_FORMAT]) + packed).decode()


def unpack(body: bytes, data: Mapping[str, Any] | None = None) -> Intent:
    """The intent in a packed body; raises UnreadableIntent."""
    return _read(body, data)[0]


def no_op_of(version: int, decided_at: datetime, command_id: str, body: bytes) -> NoOp | None:
    """The no-op in a packed body; None for the result of a step, which has no key, or damage."""
    try:
        about = unpack(body).metadata
    except UnreadableIntent:
        return None
    if about is None or not about.payload_hash:
        return None
    return NoOp(
        version=version,
        decided_at=decided_at,
        command_id=command_id,
        payload_hash=about.payload_hash,
    )


def no_ops_of(entries: Iterable[Ineffective]) -> list[NoOp]:
    """The no-ops among what changed nothing."""
    found = (
        no_op_of(one.version, one.decided_at, one.command_id, b64decode(one.intent))
        for one in entries
        if one.code is None
    )
    return [no_op for no_op in found if no_op is not None]


def unpack_text(body: bytes, data: Mapping[str, Any] | None = None) -> str:
    """The JSON of an intent in a packed body; raises UnreadableIntent."""
    return _read(body, data)[1]


def _read(body: bytes, data: Mapping[str, Any] | None) -> tuple[Intent, str]:
    """An intent and its JSON; only whole ones, whose messages have types."""
    if body[:1] != bytes([_FORMAT]):
        raise UnreadableIntent(f"format {body[0] if body else 'none'} of the journal is not known")
    unpacker = zlib.decompressobj(zdict=_known(data))
    try:
        text = unpacker.decompress(body[1:]).decode()
        intent = Intent.model_validate_json(text)
    except (zlib.error, UnicodeDecodeError, ValidationError):
        raise UnreadableIntent(_DAMAGED) from None  # The error has the data, and would be printed.
    is_whole = unpacker.eof and not unpacker.unused_data
    if not (is_whole and intent.messages and all(map(_has_type, intent.messages))):
        raise UnreadableIntent(_DAMAGED)
    return intent, text


def _has_type(message: Mapping[str, Any]) -> bool:
    return isinstance(message.get("type"), str)


def _known(data: Mapping[str, Any] | None) -> bytes:
    """The compressor's dictionary: the same for data of a decision and of the log."""
    if data is None:
        return _DICTIONARY
    return _DICTIONARY + json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
