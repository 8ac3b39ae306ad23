"""Changes of what other versions and systems rely on, for the corpus of `make release-check`.

Ids and keys, stored formats, callbacks, calls of services, the arguments of queries and activities,
and the limits of orders: contracts/stored_shapes.json has examples of them.
"""

from __future__ import annotations

from tests.support.next_version import Edit
from tests.support.release_changes import (
    DOCUMENTS,
    DRAFT,
    EVOLVE,
    FOLD,
    SHAPES,
    SHELL,
    Change,
    declarable,
    harmless,
    refused,
)

MESSAGE = "api/context.py"
PAYLOADS = "api/callbacks/payloads.py"

CONTRACT_CHANGES: tuple[Change, ...] = (
    refused(
        "another id of a command",
        SHAPES,
        Edit(MESSAGE, "    return short_hash(actor, key)\n", "    return short_hash(key, actor)\n"),
    ),
    refused(
        "another id of an opened order",
        SHAPES,
        Edit(MESSAGE, 'f"ord_{short_hash(actor, key)}"', 'f"order_{short_hash(actor, key)}"'),
    ),
    refused(
        "another key of service calls",
        SHAPES,
        Edit(
            "orders/steps.py",
            'f"{self.order_id}:{self.step.step_id}"',
            'f"{self.order_id}/{self.step.step_id}"',
        ),
    ),
    refused(
        "another header for the key of service calls",
        SHAPES,
        Edit(
            "activities/service_client.py", '"Idempotency-Key": request.key', '"Key": request.key'
        ),
    ),
    refused(
        "a renamed field of a service call",
        SHAPES,
        Edit(
            "activities/payments.py",
            '            "authorisation_id": step.step_id,\n',
            '            "step_id": step.step_id,\n',
        ),
    ),
    harmless(
        "one more field of a service call",
        Edit(
            "activities/payments.py",
            '            "authorisation_id": step.step_id,\n',
            '            "authorisation_id": step.step_id,\n            "channel": "web",\n',
        ),
    ),
    refused(
        "another id of events",
        SHAPES,
        Edit(
            "outbound/event_ids.py",
            'return f"{order_id}@{version}"',
            'return f"{order_id}/{version}"',
        ),
        Edit("outbound/event_ids.py", 'rpartition("@")', 'rpartition("/")'),
    ),
    refused(
        "another source of events",
        SHAPES,
        Edit("outbound/cloudevents.py", 'source=f"/orders/{order_id}"', 'source="/orderly"'),
    ),
    refused(
        "another header for the signature of webhooks",
        SHAPES,
        Edit("outbound/webhooks/signing.py", '"webhook-signature": "', '"signature": "'),
    ),
    refused(
        "another subject at NATS",
        SHAPES,
        Edit("outbound/relay/nats.py", '.replace(".", "%2E")', '.replace(".", "%2E").upper()'),
    ),
    refused(
        "another sealing of addresses",
        SHAPES,
        Edit(
            "privacy/sealing.py",
            "encrypt(nonce, plain, key.customer_id.encode())",
            'encrypt(nonce, plain, b"2" + key.customer_id.encode())',
        ),
        Edit(
            "privacy/sealing.py",
            "decrypt(nonce, ciphertext, key.customer_id.encode())",
            'decrypt(nonce, ciphertext, b"2" + key.customer_id.encode())',
        ),
    ),
    refused(
        "another hash of personal payloads",
        SHAPES,
        Edit("privacy/sealing.py", 'b"orderly payload hash"', 'b"orderly payload"'),
    ),
    refused(
        "another sealing of webhook secrets",
        SHAPES,
        Edit("outbound/webhooks/secrets.py", "_NONCE_BYTES = 12", "_NONCE_BYTES = 16"),
    ),
    refused(
        "another dictionary of the journal, under the same number",
        SHAPES,
        Edit("eventlog/intents.py", '"type":"deadline-passed","deadline":', '"deadline":'),
    ),
    refused(
        "another format of cursors by id",
        SHAPES,
        Edit("api/id_cursor.py", "str(row_id).encode()", "hex(row_id).encode()"),
        Edit("api/id_cursor.py", '"[0-9]{1,18}", text)', '"0x[0-9a-f]{1,16}", text)'),
        Edit(
            "api/id_cursor.py", "encode_cursor(int(text)) != ", "encode_cursor(int(text, 16)) != "
        ),
        Edit("api/id_cursor.py", "        return int(text)\n", "        return int(text, 16)\n"),
    ),
    refused(
        "one more argument of a query",
        SHAPES,
        Edit(
            SHELL,
            "def preview(self, batch: CommandBatch)",
            "def preview(self, batch: CommandBatch, n: int)",
        ),
    ),
    refused(
        "one more argument of an activity",
        SHAPES,
        Edit(
            "activities/publishing.py",
            "async def log_after(self, order_id: str, version: int)",
            "async def log_after(self, order_id: str, version: int, limit: int)",
        ),
    ),
    refused(
        "another task queue of services",
        SHAPES,
        Edit(
            "workflows/activity_options.py",
            'return f"{task_queue}-{service}"',
            'return f"{task_queue}.{service}"',
        ),
    ),
    declarable(
        "requests of at most 100 commands",
        SHAPES,
        Edit("workflows/messages.py", "COMMANDS_MAX = 600", "COMMANDS_MAX = 100"),
    ),
    harmless(
        "requests of more commands",
        Edit("workflows/messages.py", "COMMANDS_MAX = 600", "COMMANDS_MAX = 1_000"),
    ),
    refused(
        "a callback that is not known any more",
        SHAPES,
        Edit(PAYLOADS, '        "shipment.failed": ShipmentFailed,\n', ""),
    ),
    refused(
        "a required field of a callback",
        SHAPES,
        Edit(
            PAYLOADS,
            "    shipment_id: Id\n    reason: Reason | None = None\n    goods:",
            "    shipment_id: Id\n    reason: Reason\n    goods:",
        ),
    ),
    harmless(
        "one more callback",
        Edit(
            PAYLOADS,
            '"stock": {"stock.lost": ReservedStockLost},',
            '"stock": {"stock.lost": ReservedStockLost, "stock.gone": ReservedStockLost},',
        ),
    ),
    refused(
        "a command that customers may no longer send",
        SHAPES,
        Edit(
            "orders/commands.py",
            "    role = Role.CUSTOMER\n    allowed_in = DRAFT | UNFINISHED\n    grows = True\n\n"
            '    type: Literal["set-billing-address"]',
            "    allowed_in = DRAFT | UNFINISHED\n    grows = True\n\n"
            '    type: Literal["set-billing-address"]',
        ),
    ),
    declarable("at most 50 notes", SHAPES, Edit(DRAFT, "NOTES_MAX = 1_000", "NOTES_MAX = 50")),
    declarable("at most 500 lines", SHAPES, Edit(DRAFT, "LINES_MAX = 5_000", "LINES_MAX = 500")),
    declarable("a currency less", SHAPES, Edit("orders/money.py", "BDT BGN BHD", "BDT BHD")),
    harmless("a currency more", Edit("orders/money.py", "AED AFN", "XXY AED AFN")),
    refused(
        "refunds by the payment service that are not counted",
        f"{FOLD} {DOCUMENTS}",
        Edit(
            EVOLVE,
            "            return _taken_back(order, key, amount)\n"
            "        case e.AuthorisationReduced",
            "            return order\n        case e.AuthorisationReduced",
        ),
    ),
)
