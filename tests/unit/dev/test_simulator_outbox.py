"""The simulators go on after a disk was full: their database, and the sending of callbacks."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from dev.simulators import outbox
from dev.simulators.outbox import CallbackEvent, Outbox
from dev.simulators.store import Store
from dev.webhook_receiver import Receiver, serving
from outbound.webhooks.secrets import new_secret


def deny_commit(action: int, operation: str | None, *_: object) -> int:
    is_commit = action == sqlite3.SQLITE_TRANSACTION and operation == "COMMIT"
    return sqlite3.SQLITE_DENY if is_commit else sqlite3.SQLITE_OK


def add(store: Store, text: str, authorizer: Callable[..., int] | None) -> None:
    with store.transaction() as db:
        db.execute("INSERT INTO notes VALUES (?)", (text,))
        db.set_authorizer(authorizer)


def test_transaction_whose_commit_fails_is_rolled_back() -> None:
    store = Store(":memory:", "CREATE TABLE notes (text TEXT)")
    with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
        add(store, "lost", deny_commit)
    add(store, "kept", None)
    with store.transaction() as db:
        assert [row["text"] for row in db.execute("SELECT text FROM notes")] == ["kept"]


class StoreOnFullDisk(Store):
    is_full = False

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        if self.is_full:
            self.is_full = False  # By the next time it has been freed.
            raise sqlite3.OperationalError("database or disk is full")
        with super().transaction() as db:
            yield db


async def test_callbacks_are_sent_after_a_disk_was_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "POLL_S", 0.01)
    store = StoreOnFullDisk(":memory:", outbox.TABLES)
    receiver = Receiver()
    async with serving(receiver) as url, asyncio.timeout(30):
        callbacks = Outbox(store, url, new_secret())
        with store.transaction() as db:
            event = CallbackEvent("payment.captured", {"order_id": "ord_1"})
            callbacks.enqueue(db, "payments", event)
        store.is_full = True
        async with callbacks.sending():
            while not receiver.accepted:
                await asyncio.sleep(0.01)
    assert not store.is_full
