"""Sealing (authenticated encryption): personal data is stored only under AES-256-GCM, and found by a keyed digest.

A sealed value is `key id (2 bytes) | nonce (12) | ciphertext | tag (16)`. The identity of its row is the associated
data, so a value moved to another row does not open. Keys are derived (HKDF-SHA256) from the secrets of the ring, one
per purpose; a key's id is derived too, so that no numbering can go wrong.

A token (a receipt, a link) has left the database and cannot be sealed anew: keys of its own seal it, the newest of
them, and each opens what it has sealed for as long as it is kept.

Nonces are random, so a key may seal 2^32 times at the most (NIST SP 800-38D, 8.3): `seals` counts what this process has
sealed by key (`seal_counts.py`).
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.kit.crypto.digests import DIGEST_BYTES, DigestKeys
from app.kit.crypto.key_strength import HOW_TO_MAKE_ONE, MINIMUM_LENGTH, weakness_of
from app.kit.text import base64url

NONCE_BYTES = 12
KEY_ID_BYTES = 2
SIGNER_BYTES = DIGEST_BYTES


# What is sealed is as long as it is filled up to: else its length tells a name from a longer one.
PADDED_TO = 64


def padded(plain: bytes, filler: bytes = b" ") -> bytes:
    """Filled up to a multiple of 64 bytes, with a character that whoever reads it passes over at its end."""
    return plain + filler * (-len(plain) % PADDED_TO)


class SealBrokenError(Exception):
    """The value was not sealed by a key of this ring for this identity."""


def _derive(secret: str, purpose: str, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt=None, info=purpose.encode()).derive(secret.encode())


def parts_of(secrets: str) -> list[str]:
    """The secrets of a setting, `newest,older,...`."""
    return [secret.strip() for secret in secrets.split(",") if secret.strip()]


def _insist_on_strength(name: str, secrets: Sequence[str]) -> None:
    """ValueError when the newest is easy to guess, or any too short: older ones only open what is there."""
    for number, secret in enumerate(secrets, 1):
        weakness = weakness_of(secret)
        if weakness and (number == 1 or len(secret) < MINIMUM_LENGTH):
            which = f"a secret key of {name} (number {number} of {len(secrets)})"
            raise ValueError(f"{which} {weakness}: {HOW_TO_MAKE_ONE} (docs/operations.md, Keys, says how to renew it)")


def _cipher(secret: str, id_purpose: str, purpose: str) -> tuple[bytes, AESGCM]:
    key_id = _derive(secret, f"multitude/{id_purpose}", KEY_ID_BYTES)
    return key_id, AESGCM(_derive(secret, f"multitude/{purpose}", 32))


def _seal(key_id: bytes, ciphers: dict[bytes, AESGCM], plain: bytes, identity: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return key_id + nonce + ciphers[key_id].encrypt(nonce, plain, identity)


def _open(ciphers: dict[bytes, AESGCM], sealed: bytes, identity: bytes) -> bytes:
    cipher = ciphers.get(sealed[:KEY_ID_BYTES])
    if cipher is None:
        raise SealBrokenError
    nonce, body = sealed[KEY_ID_BYTES : KEY_ID_BYTES + NONCE_BYTES], sealed[KEY_ID_BYTES + NONCE_BYTES :]
    try:
        return cipher.decrypt(nonce, body, identity)
    except (InvalidTag, ValueError):
        raise SealBrokenError from None


def _ciphers(secrets: Sequence[str], id_purpose: str, purpose: str) -> dict[bytes, AESGCM]:
    """The keys by id, the newest first."""
    ciphers = dict(_cipher(secret, id_purpose, purpose) for secret in secrets)
    if len(ciphers) < len(secrets):
        raise ValueError("two secret keys are the same, or share an id: make a new one")
    return ciphers


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys by id; the current one seals, all open. `digests` are the signers' identity, and never simply exchanged."""

    current_id: bytes
    ciphers: dict[bytes, AESGCM]
    digests: DigestKeys
    token_id: bytes
    token_ciphers: dict[bytes, AESGCM]
    # How often this process has sealed, by purpose (`row`, `token`) and key.
    seals: Counter[tuple[str, bytes]] = field(default_factory=Counter, repr=False, compare=False)

    @classmethod
    def parse(
        cls, secrets: str, digest_secret: str | None = None, token_secrets: str = "", wrapping_secrets: str = ""
    ) -> "KeyRing":
        """Build the ring from `newest,older,...`; ValueError says what is wrong. What is easy to guess seals nothing.

        Without a `digest_secret` the oldest secret serves for digests as well; without `token_secrets` the digest
        secret serves for tokens. `wrapping_secrets`, the newest first too, wrap the digests (`digests.py`).
        """
        ring, wrapping = parts_of(secrets), parts_of(wrapping_secrets)
        if not ring:
            raise ValueError("MULTITUDE_SECRET_KEYS is not set: without a key nothing personal can be stored")
        lasting = digest_secret or ring[-1]
        tokens = parts_of(token_secrets) or [lasting]
        _insist_on_strength("MULTITUDE_SECRET_KEYS", ring)
        _insist_on_strength("MULTITUDE_DIGEST_KEY, or the last of MULTITUDE_SECRET_KEYS", [*wrapping[:1], lasting])
        _insist_on_strength("MULTITUDE_DIGEST_WRAPPING_KEYS", wrapping)
        _insist_on_strength("MULTITUDE_TOKEN_KEYS, or the digest key", tokens)
        if len({lasting, *wrapping}) <= len(wrapping):
            raise ValueError("two secrets for digests are the same: make a new one")
        keys = [_derive(secret, "multitude/digest-wrapping", 32) for secret in reversed(wrapping)]
        ciphers = _ciphers(ring, "key-id", "seal")
        token_ciphers = _ciphers(tokens, "token-key-id", "token")
        # Tokens were once sealed by row keys: those of the lasting secret must open even when it seals no row any more.
        former = dict(_cipher(secret, "key-id", "seal") for secret in tokens)
        return cls(
            next(iter(ciphers)),
            ciphers,
            DigestKeys(_derive(lasting, "multitude/digest", 32), tuple(keys)),
            next(iter(token_ciphers)),
            former | (ciphers if not token_secrets else {}) | token_ciphers,
        )

    @property
    def digest_key(self) -> bytes:
        """What other lasting keys are derived from."""
        return self.digests.newest

    def seal(self, plain: bytes, identity: bytes) -> bytes:
        """Seal for one row; `identity` names table, column and row."""
        self.seals["row", self.current_id] += 1
        return _seal(self.current_id, self.ciphers, plain, identity)

    def open(self, sealed: bytes, identity: bytes) -> bytes:
        """The plain value; SealBrokenError when it is forged, moved, cut short or of an unknown key."""
        return _open(self.ciphers, sealed, identity)

    def lacks_key_of(self, sealed: bytes) -> bool:
        """Whether the value was sealed by a key that is not in this ring: another ring may open it."""
        return len(sealed) > KEY_ID_BYTES and sealed[:KEY_ID_BYTES] not in self.ciphers

    def seal_token(self, plain: bytes, identity: bytes) -> bytes:
        """Seal a token, which must open for as long as its key is kept, whichever keys of rows rotate."""
        self.seals["token", self.token_id] += 1
        return _seal(self.token_id, self.token_ciphers, plain, self._bound(identity, len(self.digests.wrapping)))

    def open_token(self, sealed: bytes, identity: bytes, digest_at: int | None = None) -> bytes:
        """The plain value of a token, also of an old one sealed by a row's key; SealBrokenError as for `open`.

        `digest_at`: at which byte of it a digest begins (a signer): it is given as it is now, however often digests
        were wrapped since.
        """
        for wrapped in range(len(self.digests.wrapping), -1, -1):
            try:
                plain = _open(self.token_ciphers, sealed, self._bound(identity, wrapped))
            except SealBrokenError:
                continue
            return plain if digest_at is None else self._renewed(plain, digest_at, wrapped)
        raise SealBrokenError

    def _bound(self, identity: bytes, wrapped: int) -> bytes:
        """A token's associated data: with how often the digests in it have been wrapped."""
        return identity + (b"|wrapped%d" % wrapped if wrapped else b"")

    def _renewed(self, plain: bytes, at: int, wrapped: int) -> bytes:
        end = at + DIGEST_BYTES
        return plain[:at] + self.digests.wrap(plain[at:end], wrapped) + plain[end:]

    def write_token(self, plain: bytes, identity: bytes) -> str:
        """A sealed token as it stands in a link: base64url, 40 characters and four for three bytes."""
        return base64url.encode(self.seal_token(plain, identity))

    def read_token(self, token: str, identity: bytes, digest_at: int | None = None) -> bytes:
        """What a token from a link holds, as `open_token` gives it; SealBrokenError when we have not written it."""
        try:
            sealed = base64url.decode(token)
        except ValueError:
            raise SealBrokenError from None
        return self.open_token(sealed, identity, digest_at)

    def digest(self, value: str) -> bytes:
        """The keyed digest of a value: always the same, and nobody without the keys can compute it."""
        return self.digests.digest(value)

    def fingerprint(self) -> str:
        """Identifies the digest keys without revealing them; the database stores it (`key_ring_guard.py`)."""
        return self.digests.fingerprint()
