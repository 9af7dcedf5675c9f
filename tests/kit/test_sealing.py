"""What is sealed opens for its own row and a key of the ring, and for nothing else."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kit.crypto.sealing import SIGNER_BYTES, KeyRing, SealBrokenError

OLD, NEW = "old-Zp7wQx93LmTtKr5VbNd82JhYsGc4Fa01", "new-Rk4cHv68UeWqXz2BnMp57TgLyDs9Jf02"
OTHER = "oth-Gy3nTb59KwVzQs7HcXr84PmLdEf6Ju03"
RING = KeyRing.parse(NEW)
ROW = b"signatures.sealed" + bytes(16)


@given(plain=st.binary(max_size=300), identity=st.binary(max_size=60))
def test_what_is_sealed_opens_again_and_never_looks_alike(plain: bytes, identity: bytes) -> None:
    sealed = RING.seal(plain, identity)
    assert RING.open(sealed, identity) == plain
    assert RING.seal(plain, identity) != sealed
    assert len(sealed) == len(plain) + 30
    assert len(plain) < 4 or plain not in sealed


@given(plain=st.binary(max_size=80), at=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_a_changed_value_does_not_open(plain: bytes, at: int, bit: int) -> None:
    sealed = bytearray(RING.seal(plain, ROW))
    sealed[at % len(sealed)] ^= 1 << bit
    with pytest.raises(SealBrokenError):
        RING.open(bytes(sealed), ROW)


@given(plain=st.binary(max_size=80), length=st.integers(min_value=0))
def test_a_value_cut_short_does_not_open(plain: bytes, length: int) -> None:
    sealed = RING.seal(plain, ROW)
    with pytest.raises(SealBrokenError):
        RING.open(sealed[: length % len(sealed)], ROW)


@pytest.mark.parametrize(
    "elsewhere", [b"", ROW + b"x", b"signatures.sealed" + b"\1" * 16, b"people.sealed" + bytes(16)]
)
def test_a_value_moved_to_another_row_does_not_open(elsewhere: bytes) -> None:
    sealed = RING.seal(b"Amina Okello", ROW)
    with pytest.raises(SealBrokenError):
        RING.open(sealed, elsewhere)


def test_keys_rotate() -> None:
    before, after = KeyRing.parse(OLD), KeyRing.parse(f"{NEW}, {OLD}")
    sealed = before.seal(b"Amina Okello", ROW)
    assert after.open(sealed, ROW) == b"Amina Okello"
    assert after.seal(b"", ROW)[:2] == KeyRing.parse(NEW).current_id
    with pytest.raises(SealBrokenError):
        before.open(after.seal(b"Amina Okello", ROW), ROW)


def test_a_key_that_is_not_in_the_ring_opens_nothing() -> None:
    with pytest.raises(SealBrokenError):
        RING.open(KeyRing.parse(OTHER).seal(b"Amina Okello", ROW), ROW)
    with pytest.raises(SealBrokenError):
        RING.open(os.urandom(60), ROW)


def test_signers_stay_the_same_person_while_keys_rotate() -> None:
    before, after = KeyRing.parse(OLD), KeyRing.parse(f"{NEW},{OLD}")
    assert before.digest("amina@example.org") == after.digest("amina@example.org")
    assert before.fingerprint() == after.fingerprint()
    kept = KeyRing.parse(NEW, digest_secret=OLD)
    assert kept.digest("amina@example.org") == before.digest("amina@example.org")
    assert KeyRing.parse(NEW).fingerprint() != before.fingerprint()


def test_a_digest_needs_the_key() -> None:
    digest = RING.digest("amina@example.org")
    assert len(digest) == SIGNER_BYTES
    assert digest == RING.digest("amina@example.org") != RING.digest("amina@example.com")
    assert digest != KeyRing.parse(OTHER).digest("amina@example.org")
    assert RING.digest_key.hex() not in RING.fingerprint()


@pytest.mark.parametrize(
    ("secrets", "digest_secret", "said"),
    [
        ("", None, "not set"),
        (" , ", None, "not set"),
        ("short", None, "shorter than 32"),
        (f"{NEW},short", None, "shorter than 32"),
        (NEW, "short", "shorter than 32"),
        (f"{NEW},{OLD},{NEW}", None, "the same"),
    ],
)
def test_a_ring_that_would_not_hold_is_refused(secrets: str, digest_secret: str | None, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        KeyRing.parse(secrets, digest_secret)
    assert NEW not in str(refused.value)


def test_a_ring_does_not_show_its_keys() -> None:
    assert NEW not in repr(RING)
    assert repr(RING.digest_key) not in repr(RING)


TOKEN = b"receipt" + bytes(16)


@given(plain=st.binary(max_size=80), identity=st.binary(max_size=40))
def test_a_token_opens_again_and_is_no_rows_value(plain: bytes, identity: bytes) -> None:
    token = RING.seal_token(plain, identity)
    assert RING.open_token(token, identity) == plain
    assert token[:2] != RING.current_id
    with pytest.raises(SealBrokenError):
        RING.open(token, identity)


@pytest.mark.parametrize(
    "later",
    [
        KeyRing.parse(f"{NEW},{OLD}"),
        KeyRing.parse(NEW, digest_secret=OLD),
        KeyRing.parse(OTHER, digest_secret=OLD),
        KeyRing.parse(f"{OTHER},{NEW}", digest_secret=OLD),
    ],
)
def test_a_token_opens_whichever_keys_have_rotated(later: KeyRing) -> None:
    before = KeyRing.parse(OLD)
    assert later.open_token(before.seal_token(b"Amina", TOKEN), TOKEN) == b"Amina"
    assert before.open_token(later.seal_token(b"Amina", TOKEN), TOKEN) == b"Amina"
    # As tokens were sealed before they had a key of their own.
    assert later.open_token(before.seal(b"Amina", TOKEN), TOKEN) == b"Amina"


def test_a_token_sealed_as_rows_are_opens_for_as_long_as_its_key_is_in_the_ring() -> None:
    token = KeyRing.parse(f"{NEW},{OLD}").seal(b"Amina", TOKEN)
    assert KeyRing.parse(f"{OTHER},{NEW}", digest_secret=OLD).open_token(token, TOKEN) == b"Amina"
    with pytest.raises(SealBrokenError):
        KeyRing.parse(OTHER, digest_secret=OLD).open_token(token, TOKEN)


def test_a_removed_key_opens_no_rows_though_it_still_serves_for_digests() -> None:
    sealed = KeyRing.parse(OLD).seal(b"Amina Okello", ROW)
    with pytest.raises(SealBrokenError):
        KeyRing.parse(NEW, digest_secret=OLD).open(sealed, ROW)


@given(at=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_a_changed_token_does_not_open(at: int, bit: int) -> None:
    token = bytearray(RING.seal_token(b"Amina", TOKEN))
    token[at % len(token)] ^= 1 << bit
    with pytest.raises(SealBrokenError):
        RING.open_token(bytes(token), TOKEN)


@pytest.mark.parametrize(
    "token",
    [b"", b"\0", RING.seal_token(b"Amina", TOKEN)[:-1], os.urandom(60)],
    ids=["empty", "nul", "cut", "random"],
)
def test_what_is_no_token_does_not_open(token: bytes) -> None:
    with pytest.raises(SealBrokenError):
        RING.open_token(token, TOKEN)
    with pytest.raises(SealBrokenError):
        RING.open_token(KeyRing.parse(OTHER).seal_token(b"Amina", TOKEN), TOKEN)
    with pytest.raises(SealBrokenError):
        RING.open_token(RING.seal_token(b"Amina", TOKEN), TOKEN + b"x")
