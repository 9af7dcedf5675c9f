"""What is easy to guess is refused as a key, whichever key it is; what is random never is."""

import base64
import os
import secrets
import string

import pytest

from app.kit.crypto.key_strength import weakness_of
from app.kit.crypto.sealing import KeyRing

STRONG = secrets.token_urlsafe(32)
WEAK = [
    "a" * 32,
    "ab" * 16,
    "abc123" * 6,
    "-" * 40,
    "password" * 4,
    "0123456789abcdef" * 2,
    "1234567890" * 4,
    "00000000000000000000000000000001",
    "qwertyuiopasdfghjklzxcvbnm123456",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9",
    "abcdefghijklmnopqrstuvwxyz123456",
    "changeme" * 4,
    "Password1234Password1234Password",
    "please-change-this-secret-key-now",
    "your-secret-key-here-your-secret-key",
    "multitude-secret-key-production-1",
    "correct horse battery staple correct",
    "deadbeef" * 4,
    ("password" * 4).encode().hex(),
    ("correct horse battery staple " * 2).encode().hex().upper(),
    base64.b64encode(b"password" * 4).decode(),
    base64.urlsafe_b64encode(b"please-change-this-secret-key").decode().rstrip("="),
    "change_me_qX7vT2pLw9ZrK4sNf8Hb3Jd6",
    "generate-a-secret-of-32-characters",
    "generate_with_openssl_rand_hex_32",
    "<put 32 random bytes of yours here>",
    "${MULTITUDE_SECRET_KEYS_FROM_VAULT}",
    "the quick brown fox jumps over the lazy dog",
    "The-Quick-Brown-Fox-Jumps-Over-The-Lazy-Dog",
    "human_rights_movement_petition_secret_server",
    "-".join(["summer", "dragon", "letmein", "winter", "monkey", "service", "welcome", "horse", "staple", "sign"] * 2),
]
IN_EACH_PLACE = {
    "secret_keys": KeyRing.parse,
    "the last, which digests": lambda key: KeyRing.parse(f"{STRONG},{key}"),
    "digest_key": lambda key: KeyRing.parse(STRONG, key),
    "token_keys": lambda key: KeyRing.parse(STRONG, None, f"{key},{STRONG}"),
    "digest_wrapping_keys": lambda key: KeyRing.parse(STRONG, None, "", key),
}


@pytest.mark.parametrize("place", IN_EACH_PLACE)
@pytest.mark.parametrize("key", WEAK)
def test_a_weak_key_is_refused_wherever_it_stands_and_the_reader_is_told_how_to_make_one(place: str, key: str) -> None:
    with pytest.raises(ValueError, match=r"secrets\.token_urlsafe\(32\)") as refused:
        IN_EACH_PLACE[place](key)
    assert key not in str(refused.value)


@pytest.mark.parametrize("weak", ["a" * 32, "password" * 4])
def test_what_a_weak_key_has_done_can_be_opened_while_a_better_one_takes_its_place(weak: str) -> None:
    with pytest.raises(ValueError, match="DIGEST_KEY"):
        KeyRing.parse(STRONG, weak, STRONG)
    KeyRing.parse(f"{STRONG},{weak}", weak, f"{STRONG},{weak}", secrets.token_urlsafe(32))
    with pytest.raises(ValueError, match=r"too few|easy"):
        KeyRing.parse(f"{weak},{STRONG}", STRONG, STRONG)


@pytest.mark.parametrize(
    "make",
    [
        lambda: secrets.token_urlsafe(32),
        lambda: secrets.token_urlsafe(24),
        lambda: secrets.token_hex(16),
        lambda: base64.b64encode(os.urandom(32)).decode(),
        lambda: base64.b32encode(os.urandom(20)).decode(),
        lambda: "".join(secrets.choice(string.ascii_lowercase) for _ in range(32)),
        lambda: "".join(secrets.choice(string.digits) for _ in range(40)),
    ],
    ids=["urlsafe", "short urlsafe", "hex", "base64", "base32", "letters", "digits"],
)
def test_what_is_random_passes(make: object) -> None:
    assert callable(make)
    assert [weakness_of(make()) for _ in range(100)] == [None] * 100


def test_six_words_by_dice_pass() -> None:
    assert weakness_of("cleft-camel-synod-lacy-yearn-woken") is None
