"""Sealing and unsealing addresses, and the customers' keys: created once, found, deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

import asyncpg
import pytest
from pydantic import TypeAdapter, ValidationError

from api.context import short_hash
from orders.commands import Sealed
from privacy.address import Address
from privacy.keys import CustomerKey, PostgresKeys
from privacy.sealing import BrokenSeal, keyed_hash, seal, unseal, unseal_all

ADA = Address(
    name="Ada Lovelace",
    line1="12 St James's Square",
    postal_code="SW1Y 4JH",
    city="London",
    country="GB",
    email="ada@example.org",
    phone="+44 20 7946 0000",
)
# The longest address, in characters of four bytes.
LONGEST = Address(
    **dict.fromkeys(("name", "line1", "line2", "city", "region", "company"), "𝔄" * 100),
    postal_code="9" * 16,
    country="GB",
    email="𝔄" * 252 + "@a",
    phone="+" + "1" * 31,
)
KEY = CustomerKey("k1", "900", bytes(range(32)))
KEYS = {"k1": KEY}


@pytest.mark.parametrize("address", [ADA, LONGEST], ids=["ada", "longest"])
def test_sealed_address_is_an_opaque_token_and_unseals_to_the_same_address(
    address: Address,
) -> None:
    token = seal(address, KEY)
    TypeAdapter(Sealed).validate_python(token)
    assert unseal(token, KEYS) == address
    assert seal(address, KEY) != token, "equal addresses must have different tokens"


def test_sealed_address_is_not_validated_again() -> None:
    of_yesterday = ADA.model_copy(update={"country": "SU", "phone": "none"})
    assert unseal(seal(of_yesterday, KEY), KEYS) == of_yesterday


@pytest.mark.parametrize(
    "place", [0, 7, 9, 12, 20, 40, -30, -5], ids=lambda place: f"character {place}"
)
def test_modified_token_is_rejected(place: int) -> None:
    token = seal(ADA, KEY)
    other = "A" if token[place] != "A" else "B"
    changed = token[:place] + other + token[place:][1:]
    with pytest.raises(BrokenSeal):
        unseal(changed, KEYS)


@pytest.mark.parametrize(
    "token",
    ["", "sealed", "sealed.1.k1", "sealed.1.k1.", "sealed.1.k1.A", "sealed.1.k1.AAAA",
     "sealed.2.k1.AAAA", "sealed.1.k1." + "A" * 80, "sealed.1.k1." + "A" * 80 + "\n"],
)  # fmt: skip
def test_malformed_token_is_rejected(token: str) -> None:
    with pytest.raises(BrokenSeal):
        unseal(token, KEYS)


def test_key_of_another_customer_does_not_unseal() -> None:
    token = seal(ADA, KEY)
    for stranger in (
        CustomerKey("k1", "900", bytes(32)),
        CustomerKey("k1", "901", KEY.secret),
    ):
        with pytest.raises(BrokenSeal):
            unseal(token, {"k1": stranger})


def test_erased_key_is_distinguished_from_an_unknown_one() -> None:
    token = seal(ADA, KEY)
    assert unseal(token, {"k1": None}) is None
    with pytest.raises(BrokenSeal, match="unknown"):
        unseal(token, {})


def test_errors_and_reprs_reveal_no_secret() -> None:
    with pytest.raises(ValidationError) as invalid:
        Address(**{**ADA.model_dump(), "country": "Ada's land", "phone": "call Ada"})
    with pytest.raises(BrokenSeal) as broken:
        unseal(seal(ADA, KEY), {"k1": CustomerKey("k1", "900", bytes(32))})
    for text in (str(invalid.value), str(broken.value)):
        assert "Ada" not in text
    assert repr(KEY.secret) not in repr(KEY)


@pytest.mark.parametrize(
    "changes",
    [
        {"country": "UK"},
        {"country": "gb"},
        {"name": ""},
        {"name": "a\nb"},
        {"line1": "x" * 101},
        {"postal_code": "9" * 17},
        {"email": "ada"},
        {"email": "a" * 250 + "@b.org"},
        {"phone": "ask me"},
        {"planet": "Earth"},
    ],
    ids=str,
)
def test_invalid_address_is_rejected(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Address(**{**ADA.model_dump(), **changes})


def test_keyed_hash_depends_on_the_key() -> None:
    text = "/v1/orders\0{}"
    assert keyed_hash(text, KEY) == keyed_hash(text, KEY)
    others = {
        keyed_hash(text, CustomerKey("k1", "900", bytes(32))),
        keyed_hash(text + " ", KEY),
        short_hash(text),
    }
    assert keyed_hash(text, KEY) not in others
    assert len(keyed_hash(text, KEY)) == len(short_hash(text))


# Keys, in a real Postgres


async def test_first_use_creates_the_key_and_concurrent_uses_get_the_same(
    pool: asyncpg.Pool,
) -> None:
    keys = PostgresKeys(pool)
    at_once = await asyncio.gather(*(keys.current("900") for _ in range(40)))
    assert len(set(at_once)) == 1
    assert await PostgresKeys(pool).current("900") == at_once[0]
    other = await keys.current("901")
    assert other.key_id != at_once[0].key_id and other.secret != at_once[0].secret


async def test_erasure_deletes_the_key_and_keeps_its_row(pool: asyncpg.Pool) -> None:
    keys = PostgresKeys(pool)
    mine, other = await keys.current("900"), await keys.current("901")
    token = seal(ADA, mine)

    assert await keys.erase("900") == 1
    assert await keys.erase("900") == 0, "a repeated erasure changes nothing"
    assert await keys.erase("nobody") == 0
    ids = [mine.key_id, other.key_id, "unknown"]
    assert await keys.find(ids) == {mine.key_id: None, other.key_id: other}
    assert await unseal_all([token], keys) == {token: None}


async def test_returning_customer_gets_a_new_key(pool: asyncpg.Pool) -> None:
    keys = PostgresKeys(pool)
    old = await keys.current("900")
    before = seal(ADA, old)
    await keys.erase("900")
    new = await keys.current("900")
    assert new.key_id != old.key_id and new.secret != old.secret
    after = seal(ADA, new)
    assert await unseal_all([before, after], keys) == {before: None, after: ADA}
    assert await keys.erase("900") == 1


async def test_key_requests_race_erasure(pool: asyncpg.Pool) -> None:
    keys = PostgresKeys(pool)
    for _ in range(20):
        *given, erased = await asyncio.gather(
            keys.current("900"), keys.current("900"), keys.erase("900")
        )
        assert erased in (0, 1)
        assert all(len(key.secret) == 32 for key in given)


class CountingKeys(PostgresKeys):
    """The keys in Postgres, with a count of queries."""

    queries = 0

    async def find(self, key_ids: Collection[str]) -> Mapping[str, CustomerKey | None]:
        self.queries += 1
        return await super().find(key_ids)


async def test_many_tokens_are_unsealed_with_one_query(pool: asyncpg.Pool) -> None:
    keys = CountingKeys(pool)
    tokens = [seal(ADA, await keys.current(f"{number % 3}")) for number in range(9)]
    assert await unseal_all(tokens, keys) == dict.fromkeys(tokens, ADA)
    assert keys.queries == 1
