"""A database filled with one digest key is not written to with another."""

import pytest

from app.kit.crypto.key_ring_guard import KeyRingMismatchError, ensure_key_ring
from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Database

OLD, NEW = "old-Zp7wQx93LmTtKr5VbNd82JhYsGc4Fa01", "new-Rk4cHv68UeWqXz2BnMp57TgLyDs9Jf02"


async def _let_in(database: Database, ring: KeyRing) -> bool:
    try:
        async with database.transaction() as session:
            await ensure_key_ring(session, ring.fingerprint())
    except KeyRingMismatchError:
        return False
    return True


async def test_the_first_key_is_remembered_and_any_other_refused(database: Database) -> None:
    assert await _let_in(database, KeyRing.parse(OLD))
    assert await _let_in(database, KeyRing.parse(OLD))
    assert not await _let_in(database, KeyRing.parse(NEW))
    assert await _let_in(database, KeyRing.parse(OLD))


async def test_a_rotated_ring_is_the_same_one(database: Database) -> None:
    assert await _let_in(database, KeyRing.parse(OLD))
    assert await _let_in(database, KeyRing.parse(f"{NEW},{OLD}"))
    assert await _let_in(database, KeyRing.parse(NEW, digest_secret=OLD))
    # The old key may not be thrown away unless it is named as the digest key.
    assert not await _let_in(database, KeyRing.parse(NEW))


async def test_the_error_says_in_a_line_what_to_look_at(database: Database) -> None:
    await _let_in(database, KeyRing.parse(OLD))
    async with database.transaction() as session:
        with pytest.raises(KeyRingMismatchError, match=r"^.*MULTITUDE_SECRET_KEYS.*$"):
            await ensure_key_ring(session, KeyRing.parse(NEW).fingerprint())
