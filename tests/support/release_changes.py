"""Changes that a release may bring, and what `make release-check` must say of each.

Each is a list of edits to a copy of the checkout. An edit that no longer applies fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support.next_version import (
    NEW_COMMAND,
    NEW_EVENT_VERSION,
    NEW_FIELD,
    NEW_READ_MODEL,
    RENAMED_RESULTS,
    Edit,
    apply,
)
from tests.support.rule_changes import RULE_CHANGES

SHAPES, PAST, FOLD, DOCUMENTS = "shapes", "past", "fold", "documents"
MIGRATIONS, CONTRACTS = "migrations", "contracts"


class Change(NamedTuple):
    """A change, and the checks that find it."""

    name: str
    edits: Sequence[Edit]
    found: frozenset[str] = frozenset()
    """The checks that refuse it; without any, it is harmless."""
    refused: frozenset[str] = frozenset()
    """Those of them that refuse it even if all is declared that can be."""

    @property
    def verdict(self) -> str:
        """ "allowed", "allowed if declared" or "refused"."""
        if self.refused:
            return "refused"
        return "allowed if declared" if self.found else "allowed"

    def apply_to(self, root: Path) -> None:
        """Changes a copy of the checkout."""
        for edit in self.edits:
            apply(edit, root)


def harmless(name: str, *edits: Edit) -> Change:
    return Change(name, edits)


def declarable(name: str, found: str, *edits: Edit) -> Change:
    return Change(name, edits, frozenset(found.split()))


def refused(name: str, found: str, *edits: Edit, declarable: str = "") -> Change:
    """Some of what is found may be `declarable`."""
    checks = frozenset(found.split())
    return Change(name, edits, checks | frozenset(declarable.split()), checks)


def new_file(file: str, text: str) -> Edit:
    return Edit(file, "", text)


def migration(text: str) -> Edit:
    return new_file(f"{LOG}/0100_next.sql", f"{text}\n")


DRAFT, EVOLVE, EVENTS = "orders/rules/draft.py", "orders/evolve.py", "orders/events.py"
PROCESS, COMMANDS, ORDER = "orders/rules/process.py", "orders/commands.py", "orders/order.py"
STEPS, SHELL, OPTIONS = "orders/steps.py", "workflows/order.py", "workflows/activity_options.py"
VIEW, ORDER_VIEW = "readside/order_view/view.py", "readside/order_view/projection.py"
SNAPSHOT, MESSAGES = "workflows/snapshot.py", "workflows/messages.py"
DOCUMENT, STATISTICS = "readside/order_view/document.py", "readside/statistics/order_stats.py"
LOG, ENGINE = "eventlog/migrations", "readside/engine/migrate.py"

NOTE_READ = "        case e.NoteAdded(note_id=key, text=text):"
NOTE_FIELDS = '    type: Literal["note-added"] = "note-added"\n    note_id: str\n    text: str\n'
RENAMED_NOTE = (
    Edit(EVENTS, NOTE_FIELDS, NOTE_FIELDS.replace("    text: str", "    words: str")),
    Edit(
        DRAFT, "e.NoteAdded(note_id=note_id, text=text)", "e.NoteAdded(note_id=note_id, words=text)"
    ),
    Edit(EVOLVE, NOTE_READ, NOTE_READ.replace("text=text", "words=text")),
    Edit(VIEW, NOTE_READ, NOTE_READ.replace("text=text", "words=text")),
)
RAISED_STATE = Edit(SNAPSHOT, "    schema_version: int = 1\n", "    schema_version: int = 2\n")
ODD_CENT = Edit(
    "orders/money.py",
    "    for i in by_remainder[: amount - sum(parts)]:",
    "    for i in [len(parts) - 1] * (amount - sum(parts)):",
)
PAID = Edit(
    "orders/statuses.py",
    "    if captured:\n        whole = captured >= ledger.final_due(order)\n",
    "    if captured:\n        whole = captured > ledger.final_due(order)\n",
)
COLUMN = Edit(
    ORDER_VIEW,
    "    currency           text        NOT NULL,\n",
    "    currency           text        NOT NULL,\n    channel            text,\n",
)
WIDER = Edit(
    COMMANDS,
    'class HoldOrder(OrderCommand):\n    """Hold an order until it is released."""\n\n    allowed_in = ACTIVE\n',
    'class HoldOrder(OrderCommand):\n    """Hold an order until it is released."""\n\n    allowed_in = ACTIVE | DRAFT\n',
)
HALTED = (
    Edit(ENGINE, "    stopped_by     text,", "    halted_by      text,"),
    Edit(
        "readside/engine/monitoring.py",
        "stopped_by IS NOT NULL AS is_stopped",
        "halted_by IS NOT NULL AS is_stopped",
    ),
    Edit(
        "readside/engine/checkpoints.py",
        "position = $7, stopped_by = NULL",
        "position = $7, halted_by = NULL",
    ),
)
EMPTY_LOSES = "        case e.NoteAdded(note_id=key, text=text):\n            return evolve_fields(order, notes={**order.notes, key: fingerprint_of(text)})\n"

SEEDED = (
    # What the first experiment with a second version seeded.
    declarable(
        "discounts of at most half",
        PAST,
        Edit(
            DRAFT,
            '            check_capacity(order.discounts, DISCOUNTS_MAX, "too-many-discounts")\n',
            '            check_capacity(order.discounts, DISCOUNTS_MAX, "too-many-discounts")\n            if 2 * amount > order.subtotal:\n                raise CommandRejected("too much", "discounts-exceed-total")\n',
        ),
    ),
    declarable(
        "at most two discounts, and a version is raised",
        f"{SHAPES} {PAST}",
        Edit(DRAFT, "DISCOUNTS_MAX = 100", "DISCOUNTS_MAX = 2"),
        *NEW_READ_MODEL,
    ),
    refused("the odd cent goes to the last line", "fold documents", ODD_CENT, declarable=PAST),
    declarable(
        "the odd cent goes to the last line, and versions are raised",
        PAST,
        ODD_CENT,
        RAISED_STATE,
        *NEW_READ_MODEL,
    ),
    declarable(
        "refunds before captures",
        PAST,
        Edit(
            PROCESS,
            "    _capture,\n    _refund,\n    _void,\n    _release,\n)",
            "    _release,\n    _void,\n    _refund,\n    _capture,\n)",
        ),
    ),
    declarable(
        "the return window ends at midnight",
        PAST,
        Edit(
            "orders/rules/shipments.py",
            "    return_by = now + timedelta(seconds=policy_of(order).return_window)\n    return [",
            "    return_by = now + timedelta(seconds=policy_of(order).return_window)\n    return_by = return_by.replace(hour=0, minute=0, second=0)\n    return [",
        ),
    ),
    declarable(
        "step ids begin with auth",
        PAST,
        Edit(
            PROCESS,
            'step_id=order.next_step_id("authorise"), amount',
            'step_id=order.next_step_id("auth"), amount',
        ),
    ),
    harmless("a field with a default on add-item-to-order", *NEW_FIELD),
    refused(
        "a field with a default on refund-payment",
        SHAPES,
        Edit(
            COMMANDS,
            "    refund_id: NewId = UNASSIGNED\n",
            "    refund_id: NewId = UNASSIGNED\n    urgent: bool = False\n",
        ),
        declarable=PAST,
    ),
    declarable(
        "texts of at most 500 characters",
        SHAPES,
        Edit("orders/text.py", "    str, Characters(1000,", "    str, Characters(500,"),
    ),
    declarable(
        "quantities of at most 1,000",
        "shapes past",
        Edit("orders/money.py", "QUANTITY_MAX = 10**6", "QUANTITY_MAX = 10**3"),
    ),
    refused("a command and its event, without a new read model", "shapes documents", *NEW_COMMAND),
    harmless("a command and its event", *NEW_COMMAND, *NEW_READ_MODEL),
    harmless(
        "an optional field of an event",
        Edit(EVENTS, NOTE_FIELDS, NOTE_FIELDS + "    language: str | None = None\n"),
    ),
    refused(
        "a field of an event with a default",
        SHAPES,
        Edit(EVENTS, NOTE_FIELDS, NOTE_FIELDS + '    language: str = "en"\n'),
        declarable=PAST,
    ),
    declarable("a version of an event, with its upcaster", PAST, *NEW_EVENT_VERSION),
    refused(
        "a renamed field of an event",
        "shapes contracts fold documents",
        *RENAMED_NOTE,
        declarable=PAST,
    ),
    refused(
        "an upcaster that loses the text",
        "fold documents",
        NEW_EVENT_VERSION[0],
        Edit(
            "orders/upcasting.py",
            NEW_EVENT_VERSION[1].old,
            NEW_EVENT_VERSION[1].new.replace("{**data,", '{**data, "text": "",'),
        ),
        NEW_EVENT_VERSION[2],
        declarable=PAST,
    ),
    refused(
        "a renamed field of the order",
        DOCUMENTS,
        Edit(ORDER, "    removed_discounts: frozenset", "    former_discounts: frozenset"),
        Edit(
            EVOLVE,
            "without(order.discounts, key), order.removed_discounts | {key}",
            "without(order.discounts, key), order.former_discounts | {key}",
        ),
        Edit(
            EVOLVE,
            "discounts=discounts, removed_discounts=removed",
            "discounts=discounts, former_discounts=removed",
        ),
        Edit(
            DRAFT,
            "order.discounts, order.removed_discounts",
            "order.discounts, order.former_discounts",
        ),
        Edit(
            "orders/rules/no_op.py",
            "return key in order.removed_discounts",
            "return key in order.former_discounts",
        ),
        declarable="shapes past",
    ),
    declarable("a renamed field of the snapshot", "shapes past", *RENAMED_RESULTS),
    refused(
        "a status reached by an old event",
        "shapes fold documents",
        Edit(
            "orders/lifecycle.py",
            '    EXPIRED = "expired"\n',
            '    EXPIRED = "expired"\n    LAPSED = "lapsed"\n',
        ),
        Edit(
            "orders/lifecycle.py",
            "Status.CANCELLED, Status.EXPIRED})",
            "Status.CANCELLED, Status.EXPIRED, Status.LAPSED})",
        ),
        Edit(
            EVOLVE,
            "evolve_fields(order, status=Status.EXPIRED)",
            "evolve_fields(order, status=Status.LAPSED)",
        ),
    ),
    declarable(
        "a renamed field of a step",
        SHAPES,
        Edit(
            STEPS,
            '    type: Literal["void"] = "void"\n    authorisation_id: str\n    reference: str\n',
            '    type: Literal["void"] = "void"\n    authorisation_id: str\n    payment_reference: str\n',
        ),
        Edit(
            EVOLVE,
            "authorisation_id=key, reference=authorisation.reference)\n            )\n        case e.RefundGranted",
            "authorisation_id=key, payment_reference=authorisation.reference)\n            )\n        case e.RefundGranted",
        ),
        Edit("activities/payments.py", 'step.reference, "void"', 'step.payment_reference, "void"'),
    ),
    declarable(
        "a renamed activity",
        PAST,
        Edit(OPTIONS, 'PUBLISH_EVENTS = "publish_events"', 'PUBLISH_EVENTS = "publish"'),
    ),
    declarable(
        "one more search attribute",
        PAST,
        Edit(
            SHELL,
            "            workflow.upsert_search_attributes([STATUS.value_set(order.status)])\n",
            "            workflow.upsert_search_attributes([STATUS.value_set(order.status)])\n            workflow.upsert_search_attributes([CUSTOMER.value_set(order.customer_id)])\n",
        ),
    ),
    harmless(
        "other timeouts, retries and summaries",
        Edit(OPTIONS, "LOG_TIMEOUT = timedelta(seconds=5)", "LOG_TIMEOUT = timedelta(seconds=6)"),
        Edit(OPTIONS, "    maximum_attempts=5,", "    maximum_attempts=6,"),
        Edit(OPTIONS, 'return f"reserve {_pieces(lines)}"', 'return f"hold {_pieces(lines)}"'),
    ),
    harmless(
        "other words in the Temporal Web UI",
        Edit(
            "workflows/web_ui.py", "This order has not been opened.", "This order is not open yet."
        ),
    ),
    declarable(
        "one event in each batch",
        PAST,
        Edit("workflows/publisher.py", "BATCH_BYTES_MAX = 500_000", "BATCH_BYTES_MAX = 1"),
    ),
    refused("another payment status, without a new read model", DOCUMENTS, PAID),
    harmless("another payment status", PAID, *NEW_READ_MODEL),
    refused("a column of a read model, without a new version", "shapes documents", COLUMN),
    harmless("a column of a read model", COLUMN, *NEW_READ_MODEL),
    harmless(
        "another default of the policy",
        Edit(
            "orders/policy.py",
            "    return_window: Seconds = 30 * DAY",
            "    return_window: Seconds = 60 * DAY",
        ),
    ),
)
OTHERS = (
    refused(
        "a removed command",
        "shapes contracts documents",
        Edit(
            COMMANDS,
            'Literal["hold-order"] = "hold-order"',
            'Literal["pause-order"] = "pause-order"',
        ),
        declarable=PAST,
    ),
    refused(
        "a required field of a command",
        "shapes contracts",
        Edit(
            COMMANDS,
            '    type: Literal["hold-order"] = "hold-order"\n    reason: Text | None = None\n',
            '    type: Literal["hold-order"] = "hold-order"\n    reason: Text\n',
        ),
        declarable=PAST,
    ),
    harmless(
        "longer texts",
        Edit("orders/text.py", "    str, Characters(1000,", "    str, Characters(1500,"),
    ),
    refused("a command in other statuses, without a new read model", "shapes documents", WIDER),
    harmless("a command in other statuses", WIDER, *NEW_READ_MODEL),
    refused(
        "a removed event",
        "shapes contracts fold documents",
        Edit(
            EVENTS,
            'Literal["order-held"] = "order-held"',
            'Literal["order-paused"] = "order-paused"',
        ),
        declarable=PAST,
    ),
    refused(
        "a required field of an event",
        "shapes contracts fold documents",
        Edit(EVENTS, NOTE_FIELDS, NOTE_FIELDS + "    language: str\n"),
        Edit(
            DRAFT,
            "e.NoteAdded(note_id=note_id, text=text)",
            'e.NoteAdded(note_id=note_id, text=text, language="en")',
        ),
        declarable=PAST,
    ),
    refused(
        "a renamed field of a result",
        SHAPES,
        Edit(
            STEPS,
            '    type: Literal["stock-held"] = "stock-held"\n    step_id: str\n    held: list[Held]\n',
            '    type: Literal["stock-held"] = "stock-held"\n    step_id: str\n    got: list[Held]\n',
        ),
        Edit(
            "orders/rules/results.py",
            "case o.StockHeld(step_id=key, held=held):",
            "case o.StockHeld(step_id=key, got=held):",
        ),
        declarable=PAST,
    ),
    refused(
        "a renamed field of the command result",
        SHAPES,
        Edit(
            MESSAGES,
            '    version: int\n    status: str\n    total: int\n    """In minor units of `currency`."""\n    currency: str\n    event_types',
            '    version: int\n    status: str\n    sum: int\n    """In minor units of `currency`."""\n    currency: str\n    event_types',
        ),
        Edit(
            "workflows/idempotency.py", "        total=order.total,\n", "        sum=order.total,\n"
        ),
    ),
    refused(
        "a renamed query",
        SHAPES,
        Edit(SHELL, "    def command_status(self", "    def status_of_command(self"),
    ),
    harmless(
        "a field of the order, without past",
        Edit(
            ORDER,
            "    shipping_charge: int = 0\n",
            "    shipping_charge: int = 0\n    gift_message: str | None = None\n",
        ),
    ),
    refused(
        "a field of the order that the past has",
        DOCUMENTS,
        Edit(
            ORDER,
            "    shipping_charge: int = 0\n",
            "    shipping_charge: int = 0\n    first_note: str | None = None\n",
        ),
        Edit(
            EVOLVE,
            EMPTY_LOSES,
            EMPTY_LOSES.replace(
                "return evolve_fields(order, ",
                "return evolve_fields(order, first_note=order.first_note or key, ",
            ),
        ),
    ),
    refused(
        "an event whose effect is lost",
        "fold documents",
        Edit(
            EVOLVE,
            "            return evolve_fields(order, shipping_charge=amount)\n",
            "            return order\n",
        ),
        declarable=PAST,
    ),
    refused(
        "another format of cursors",
        SHAPES,
        Edit(
            "eventlog/cursor.py",
            '_CURSOR = struct.Struct(">Iqq")',
            '_CURSOR = struct.Struct("<Iqq")',
        ),
    ),
    refused(
        "another format of list cursors",
        SHAPES,
        Edit(
            "api/reads/cursor.py",
            "    fields = [sort, value, order_id]\n",
            "    fields = [value, sort, order_id]\n",
        ),
        Edit(
            "api/reads/cursor.py",
            "        made_for, sort_value, order_id = _fields(sort)",
            "        sort_value, made_for, order_id = _fields(sort)",
        ),
        Edit(
            "api/reads/cursor.py",
            "TypeAdapter(tuple[str, Instant, Id])",
            "TypeAdapter(tuple[Instant, str, Id])",
        ),
        Edit(
            "api/reads/cursor.py",
            "TypeAdapter(tuple[str, Annotated[int, Field(ge=0, lt=2**63)], Id])",
            "TypeAdapter(tuple[Annotated[int, Field(ge=0, lt=2**63)], str, Id])",
        ),
    ),
    refused(
        "a read model that went back",
        SHAPES,
        Edit(ORDER_VIEW, 'name="order_view", version=6', 'name="order_view", version=5'),
    ),
    refused(
        "other statistics, without a new read model",
        DOCUMENTS,
        Edit(
            STATISTICS,
            "        case PaymentCaptured(amount=amount) | PaymentRefunded(amount=amount):\n",
            "        case PaymentCaptured(amount=amount):\n",
        ),
    ),
    refused(
        "a field of the document, without a new read model",
        "shapes documents",
        Edit(
            DOCUMENT,
            "    shipping_charge: int\n    lines: list[OrderLine]\n",
            "    shipping_charge: int\n    line_count: int\n    lines: list[OrderLine]\n",
        ),
        Edit(
            DOCUMENT,
            "        shipping_charge=order.shipping_charge,\n",
            "        shipping_charge=order.shipping_charge,\n        line_count=len(order.lines),\n",
        ),
    ),
    refused(
        "a removed route",
        CONTRACTS,
        Edit("api/reads/statistics.py", '@router.get("/lead-times"', '@router.get("/times"'),
    ),
    refused(
        "a removed field of a response",
        CONTRACTS,
        Edit(
            "api/reads/history.py",
            '    cause_id: str = Field(description="shared by all events with one cause")\n',
            '    cause: str = Field(description="shared by all events with one cause")\n',
        ),
    ),
    harmless(
        "another summary of a route",
        Edit(
            "api/reads/statistics.py",
            '@router.get("/lead-times", summary="Lead times"',
            '@router.get("/lead-times", summary="Times of orders"',
        ),
    ),
    refused(
        "a migration that was changed",
        MIGRATIONS,
        Edit(
            f"{LOG}/0002_customer_keys.sql",
            "    erased_at   timestamptz,\n",
            "    erased_at   timestamptz,\n    reason      text,\n",
        ),
    ),
    refused(
        "a migration that fails",
        MIGRATIONS,
        migration("ALTER TABLE orders ADD COLUMN x text;"),
    ),
    refused(
        "a migration that ends the transaction",
        MIGRATIONS,
        migration("UPDATE webhook_health SET probes = 0;\nCOMMIT;\nBEGIN;"),
    ),
    refused(
        "a migration that rejects what both versions write",
        MIGRATIONS,
        migration("ALTER TABLE order_events ADD CONSTRAINT short CHECK (version < 5) NOT VALID;"),
    ),
    refused("a column of the engine that was renamed in code only", MIGRATIONS, *HALTED),
    declarable(
        "a column of the engine that was renamed in code and in the database",
        MIGRATIONS,
        *HALTED,
        Edit(
            ENGINE,
            "CREATE TABLE IF NOT EXISTS parked_orders (",
            """DO $$ BEGIN
    ALTER TABLE projection_checkpoints RENAME COLUMN stopped_by TO halted_by;
EXCEPTION WHEN undefined_column THEN NULL;
END $$;
CREATE TABLE IF NOT EXISTS parked_orders (""",
        ),
    ),
    harmless(
        "a column of the engine that was added in code and in the database",
        Edit(
            ENGINE,
            "CREATE TABLE IF NOT EXISTS parked_orders (",
            """ALTER TABLE projection_checkpoints ADD COLUMN IF NOT EXISTS host text;
CREATE TABLE IF NOT EXISTS parked_orders (""",
        ),
    ),
    refused(
        "a migration before the others",
        MIGRATIONS,
        new_file(f"{LOG}/0000_late.sql", "CREATE TABLE late (id text);\n"),
    ),
    harmless(
        "other words of a rejection", Edit(DRAFT, '"the order has no lines"', '"there is no line"')
    ),
    harmless("a comment", Edit(EVOLVE, "        # The draft\n", "        # While it is a draft\n")),
    harmless(
        "code in another order",
        Edit(
            VIEW,
            "        order, updated_at = evolve(order, event), stored.occurred_at\n",
            "        updated_at = stored.occurred_at\n        order = evolve(order, event)\n",
        ),
    ),
    harmless(
        "another log line",
        Edit("worker.py", 'log.info("worker is shutting down")', 'log.info("the worker ends")'),
    ),
)

# Rules that only accept more leave the past as it is. Those that decide which commands an order
# offers, or what it waits for, change a read model, too.
_ACCEPT_MORE = ("an empty order may be placed", "goodwill needs no capture")
_OFFER_MORE = ("orders can be cancelled after they have shipped",)
_OFFER_OTHERS = (
    "no goodwill",
    "a return is refunded without its shipping",
    "a deadline for capture is ignored",
    "shipped orders close at once",
    "five days to return",
)


def _of_rule(name: str, edit: Edit) -> Change:
    if name in _ACCEPT_MORE:
        return harmless(name, edit)
    if name in _OFFER_MORE:
        return refused(name, DOCUMENTS, edit)
    if name in _OFFER_OTHERS:
        return refused(name, DOCUMENTS, edit, declarable=PAST)
    return declarable(name, PAST, edit)


# What the version before may go on with, beside the migrated tables.
HARMLESS_MIGRATIONS = tuple(
    harmless(f"a migration {what}", migration(text))
    for what, text in (
        (
            "of a new table",
            "CREATE TABLE labels (label text PRIMARY KEY);\nCREATE INDEX ON labels (label);",
        ),
        ("of a column that may be null", "ALTER TABLE order_events ADD COLUMN label text;"),
        (
            "of a table that it fills",
            """CREATE TABLE labels (label text);
INSERT INTO labels SELECT type FROM order_events;
UPDATE labels SET label = '';""",
        ),
        ("with UPDATE in a comment", "/*\nUPDATE webhook_health SET probes = 0;\n*/ SELECT 1;"),
        (
            "with UPDATE in a new function",
            """CREATE FUNCTION reset() RETURNS void LANGUAGE sql AS $fn$
UPDATE webhook_health SET probes = 0;
$fn$;""",
        ),
        (
            "of a trigger of a new table",
            """CREATE TABLE labels (label text);
CREATE TRIGGER labels_never_change BEFORE INSERT OR
UPDATE ON labels
FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_change_intents();""",
        ),
        (
            "that stores less often",
            "ALTER TABLE webhook_health SET (autovacuum_vacuum_scale_factor = 0.5);",
        ),
        (
            "of a new table with a reference",
            """CREATE TABLE labels (
    endpoint_id text REFERENCES webhook_endpoints ON DELETE CASCADE
);""",
        ),
        (
            "that allows more",
            "ALTER TABLE webhook_endpoints DROP CONSTRAINT webhook_endpoints_status_check;",
        ),
        (
            "with a block that depends on rows",
            """DO $$ BEGIN
    IF EXISTS (SELECT FROM customer_keys) THEN
        CREATE TABLE labels (label text);
    END IF;
END $$;""",
        ),
    )
)
# What it may miss, wait for, or be rejected by.
HARMFUL_MIGRATIONS = tuple(
    declarable(f"a migration {what}", MIGRATIONS, migration(text))
    for what, text in (
        ("of an index", "CREATE INDEX ON order_events (type);"),
        ("that drops a column", "ALTER TABLE webhook_deliveries DROP COLUMN answer;"),
        ("that renames a table", "ALTER TABLE webhook_health RENAME TO webhook_states;"),
        ("that rewrites the log", "ALTER TABLE order_events ALTER COLUMN version TYPE bigint;"),
        (
            "that allows no nulls",
            "ALTER TABLE webhook_deliveries ALTER COLUMN status SET NOT NULL;",
        ),
        ("that changes all rows", "UPDATE webhook_health SET probes = 0;"),
        (
            "that changes rows in a block",
            "DO $$ BEGIN UPDATE webhook_health SET probes = 0; END $$;",
        ),
        (
            "that changes rows if there are some",
            """DO $$ DECLARE one record; BEGIN
    FOR one IN SELECT * FROM webhook_health LOOP
        UPDATE webhook_health SET probes = 0 WHERE endpoint_id = one.endpoint_id;
    END LOOP;
END $$;""",
        ),
        (
            "that changes rows in a common table expression",
            "WITH reset AS (UPDATE webhook_health SET probes = 0 RETURNING 1)\nSELECT * FROM reset;",
        ),
        (
            "that changes rows after another statement",
            "CREATE TABLE labels (label text); UPDATE webhook_health SET probes = 0;",
        ),
        ("that locks a table", "LOCK TABLE webhook_health IN SHARE ROW EXCLUSIVE MODE;"),
        (
            "of a column with a check",  # Postgres scans the table for it, under a lock.
            "ALTER TABLE webhook_health ADD COLUMN tries integer CHECK (tries > 0);",
        ),
        (
            "of a check of new rows",
            "ALTER TABLE webhook_health ADD CONSTRAINT few CHECK (probes < 9) NOT VALID;",
        ),
        (
            "of a reference that forbids deletions",
            "CREATE TABLE labels (endpoint_id text REFERENCES webhook_endpoints);",
        ),
        (
            "of a trigger",
            """CREATE TRIGGER keys_never_change BEFORE INSERT ON customer_keys
FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_change_intents();""",
        ),
        (
            "of a rule",
            "CREATE RULE no_keys AS ON INSERT TO customer_keys DO INSTEAD NOTHING;",
        ),
        (
            "that drops a default",
            "ALTER TABLE customer_keys ALTER COLUMN created_at DROP DEFAULT;",
        ),
        (
            "that drops an identity",
            "ALTER TABLE callbacks ALTER COLUMN callback_id DROP IDENTITY;",
        ),
        (
            "that disables a trigger",
            "ALTER TABLE order_events DISABLE TRIGGER order_events_never_change;",
        ),
        (
            "that replaces a function",
            """CREATE OR REPLACE FUNCTION refuse_to_change_events() RETURNS trigger
LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;""",
        ),
        (
            "that replaces an index",
            """DROP INDEX callbacks_of_service;
CREATE INDEX callbacks_of_service ON callbacks (service);""",
        ),
        (
            "that replaces a primary key",
            """ALTER TABLE digest_blocks DROP CONSTRAINT digest_blocks_pkey,
    ADD CONSTRAINT digest_blocks_pkey PRIMARY KEY (number, level);""",
        ),
        ("that builds indexes again", "REINDEX TABLE order_events;"),
        ("that drops a read model", "DROP SCHEMA IF EXISTS order_view CASCADE;"),
        ("that restricts a table", "ALTER TABLE customer_keys ENABLE ROW LEVEL SECURITY;"),
    )
)
RULES = tuple(_of_rule(c.name, Edit(c.file, c.old, c.new)) for c in RULE_CHANGES)
CHANGES = (*SEEDED, *OTHERS, *HARMLESS_MIGRATIONS, *HARMFUL_MIGRATIONS, *RULES)
