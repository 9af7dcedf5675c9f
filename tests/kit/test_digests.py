"""Wrapped digests: a permutation of what they were, which the first key alone neither makes nor undoes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kit.crypto.digests import DigestKeys, keyed_digest
from app.kit.crypto.sealing import KeyRing, SealBrokenError

FIRST, SECOND, THIRD = b"1" * 32, b"2" * 32, b"3" * 32
PLAIN, ONCE, TWICE = DigestKeys(FIRST), DigestKeys(FIRST, (SECOND,)), DigestKeys(FIRST, (SECOND, THIRD))
SECRETS = "wNqT4yq0yO3nF1bGm8cZ2vK7xU5hR9sE", "Yq3bW8sKx0Zr5Nf7Lm2Tc9Hd4Vj6Pg1A", "Uo7eR2iJ5kD9wX3zQ8nB6tM1yS4vC0hL"


def test_without_a_wrapping_key_a_digest_is_what_it_always_was() -> None:
    assert PLAIN.digest("amina@example.org") == keyed_digest(FIRST, "amina@example.org")
    assert PLAIN.short_digest("example.org", 8) == keyed_digest(FIRST, "example.org")[:8]
    assert PLAIN.newest == FIRST


@given(st.text())
def test_a_digest_can_be_wrapped_when_it_is_made_or_later_and_be_had_back(value: str) -> None:
    first = PLAIN.digest(value)
    assert len({first, ONCE.digest(value), TWICE.digest(value)}) == 3
    assert ONCE.wrap(first) == ONCE.digest(value)
    assert TWICE.wrap(ONCE.digest(value), since=1) == TWICE.wrap(first) == TWICE.digest(value)
    assert TWICE.unwrap(TWICE.digest(value)) == ONCE.unwrap(ONCE.digest(value)) == first
    assert TWICE.wrap_short(ONCE.short_digest(value, 8), since=1) == TWICE.short_digest(value, 8)


@given(st.sets(st.binary(min_size=16, max_size=16), min_size=2))
def test_no_two_people_become_one(digests: set[bytes]) -> None:
    assert len({TWICE.wrap(digest) for digest in digests}) == len(digests)


def test_other_keys_make_other_digests_and_another_fingerprint() -> None:
    other = DigestKeys(FIRST, (THIRD, SECOND))
    assert other.digest("amina@example.org") != TWICE.digest("amina@example.org")
    assert len({keys.fingerprint() for keys in (PLAIN, ONCE, TWICE, other)}) == 4


def test_keys_are_not_shown() -> None:
    assert not any(repr(key) in repr(TWICE) for key in (FIRST, SECOND, THIRD))


def rings() -> list[KeyRing]:
    """The same ring before any wrapping, after one, and after two."""
    sealing, first, again = SECRETS
    return [KeyRing.parse(sealing, None, sealing, wrapping) for wrapping in ("", first, f"{again},{first}")]


@pytest.mark.parametrize("made", [0, 1, 2])
@pytest.mark.parametrize("read", [0, 1, 2])
def test_a_token_tells_who_it_was_made_for_however_often_digests_were_wrapped_since(made: int, read: int) -> None:
    writing, reading = rings()[made], rings()[read]
    token = writing.write_token(b"before" + writing.digest("amina@example.org") + b"after", b"receipt")
    if made > read:
        with pytest.raises(SealBrokenError):
            reading.read_token(token, b"receipt", digest_at=6)
        return
    plain = reading.read_token(token, b"receipt", digest_at=6)
    assert plain == b"before" + reading.digest("amina@example.org") + b"after"
    assert len(token) == len(rings()[0].write_token(plain, b"receipt"))


def test_a_token_key_can_be_renewed_and_the_old_one_left_out() -> None:
    sealing, old, new = SECRETS
    token = KeyRing.parse(sealing, old).write_token(b"Amina", b"receipt")
    renewed, alone = KeyRing.parse(sealing, old, f"{new},{old}"), KeyRing.parse(sealing, old, new)
    assert renewed.read_token(token, b"receipt") == b"Amina"
    assert alone.read_token(renewed.write_token(b"Amina", b"receipt"), b"receipt") == b"Amina"
    with pytest.raises(SealBrokenError):
        alone.read_token(token, b"receipt")
    # Not even what is sealed by a row's key is a token then.
    with pytest.raises(SealBrokenError):
        alone.open_token(alone.seal(b"Amina", b"receipt"), b"receipt")
