"""Sealed records: what one version has sealed, the one before and the one after can read."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import pytest
from pydantic import Field

from app.kit.crypto.sealed_records import RecordCodec, RecordUnreadableError
from app.kit.crypto.sealing import KeyRing, SealBrokenError

RING = KeyRing.parse(secrets.token_hex(32))
ROW = b"people.sealed" + bytes(16)


@dataclass(frozen=True, slots=True)
class Secret:
    text: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Before:
    email: Annotated[str, Field(alias="e")]
    given_name: str | None = None
    secrets: tuple[Secret, ...] = ()


@dataclass(frozen=True, slots=True)
class After:
    email: Annotated[str, Field(alias="e")]
    nickname: str = ""
    given_name: str | None = None
    secrets: tuple[Secret, ...] = ()


BEFORE = RecordCodec(Before, former_separator="\x1f", former_fields=("given_name", "email"))
AFTER = RecordCodec(After, former_separator="\x1f", former_fields=("given_name", "email"))


def test_a_record_comes_back_as_it_was() -> None:
    record = Before("ada@example.org", "Ada", (Secret("one"), Secret("two", datetime(2026, 1, 1, tzinfo=UTC))))
    assert BEFORE.open(RING, BEFORE.seal(RING, record, ROW), ROW) == record


def test_the_version_before_reads_a_record_with_one_field_more() -> None:
    sealed = AFTER.seal(RING, After("ada@example.org", "Countess", "Ada"), ROW)
    assert BEFORE.open(RING, sealed, ROW) == Before("ada@example.org", "Ada")


def test_the_version_after_reads_a_record_with_one_field_less() -> None:
    sealed = BEFORE.seal(RING, Before("ada@example.org", "Ada"), ROW)
    assert AFTER.open(RING, sealed, ROW) == After("ada@example.org", "", "Ada")


def test_a_nested_record_may_have_one_field_more_too() -> None:
    assert BEFORE.load(b'{"e":"a","secrets":[{"text":"one","purpose":"signing"}]}') == Before(
        "a", None, (Secret("one"),)
    )


def test_names_are_short_and_what_equals_its_default_is_left_out() -> None:
    assert BEFORE.dump(Before("ada@example.org")).rstrip() == b'{"e":"ada@example.org"}'


def test_an_empty_text_is_not_the_same_as_nothing() -> None:
    assert BEFORE.load(BEFORE.dump(Before("a", ""))).given_name == ""


def test_what_older_versions_joined_by_position_is_read() -> None:
    assert BEFORE.load("Ådá\x1fada@example.org".encode()) == Before("ada@example.org", "Ådá")
    assert BEFORE.load(b"Ada\x1fada@example.org\x1fof a later version") == Before("ada@example.org", "Ada")


def test_a_text_with_the_separator_in_it_is_not_taken_for_the_joined_form() -> None:
    record = Before("a\x1fb", "{")
    assert BEFORE.load(BEFORE.dump(record)) == record


@pytest.mark.parametrize("plain", [b"", b"{}", b"[]", b"Ada", b'{"e":4}', b'{"e":"a"', b"\xff\xff\x1f\xff"])
def test_what_is_no_such_record_is_unreadable_and_not_repeated(plain: bytes) -> None:
    with pytest.raises(RecordUnreadableError) as caught:
        BEFORE.open(RING, RING.seal(plain, ROW), ROW)
    assert str(caught.value) == ""
    assert caught.value.__cause__ is None


def test_the_version_before_leaves_what_it_does_not_know_in_the_row() -> None:
    sealed = AFTER.seal(RING, After("ada@example.org", "Countess", "Ada"), ROW)
    changed = BEFORE.reseal(RING, sealed, Before("ada@example.org", "Åda"), ROW)
    assert AFTER.open(RING, changed, ROW) == After("ada@example.org", "Countess", "Åda")
    taken_away = BEFORE.reseal(RING, changed, Before("ada@example.org"), ROW)
    assert AFTER.open(RING, taken_away, ROW) == After("ada@example.org", "Countess")


def test_a_record_stays_joined_while_that_form_can_hold_it() -> None:
    sealed = RING.seal(b"Ada\x1fada@example.org", ROW)
    assert RING.open(BEFORE.reseal(RING, sealed, Before("a", "Ada"), ROW), ROW).rstrip(b"\x1f") == b"Ada\x1fa"
    assert AFTER.open(RING, BEFORE.reseal(RING, sealed, Before("a"), ROW), ROW) == After("a")
    assert AFTER.dump(After("a", "Countess", "Ada")).rstrip() == b'{"e":"a","nickname":"Countess","given_name":"Ada"}'


def test_the_record_of_another_row_stays_shut() -> None:
    with pytest.raises(SealBrokenError):
        BEFORE.open(RING, BEFORE.seal(RING, Before("a"), ROW), b"another")


@pytest.mark.parametrize("nickname", ["", "Countess"])
def test_what_is_sealed_is_padded_and_what_was_not_is_still_read(nickname: str) -> None:
    for length in range(1, 70):
        record = After("ada@example.org", nickname, "A" * length)
        plain = AFTER.dump(record)
        assert len(plain) % 64 == 0
        assert AFTER.load(plain) == record == AFTER.load(plain.rstrip(b" \x1f"))
        assert BEFORE.load(plain) == Before("ada@example.org", "A" * length)
        assert len(BEFORE.dump_over(plain, Before("ada@example.org", "B"))) % 64 == 0
        assert AFTER.load(BEFORE.dump_over(plain, Before("ada@example.org", "B"))) == After(
            "ada@example.org", nickname, "B"
        )
