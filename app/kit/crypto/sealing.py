"""Sealing (authenticated encryption): personal data is stored only under AES-256-GCM, and found by a keyed digest.

A sealed value is `key id (2 bytes) | nonce (12) | ciphertext | tag (16)`. The identity of its row is the associated
data, so a value moved to another row does not open. Keys are derived (HKDF-SHA256) from the secrets of the ring, one
per purpose; a key's id is derived too, so that no numbering can go wrong.

A token (a receipt, a link) has left the database and cannot be sealed anew, so its key never rotates.
"""

import hashlib
import hmac
import os
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.kit.text import base64url

NONCE_BYTES = 12
KEY_ID_BYTES = 2
MINIMUM_SECRET_LENGTH = 32
SIGNER_BYTES = 16


class SealBrokenError(Exception):
    """The value was not sealed by a key of this ring for this identity."""


def _derive(secret: str, purpose: str, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt=None, info=purpose.encode()).derive(secret.encode())


def keyed_digest(key: bytes, value: str) -> bytes:
    """The first 16 bytes of HMAC-SHA256."""
    return hmac.digest(key, value.encode(), "sha256")[:SIGNER_BYTES]


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


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys by id; the current one seals, all open. `digest_key` never rotates: it is the signers' identity."""

    current_id: bytes
    ciphers: dict[bytes, AESGCM]
    digest_key: bytes = field(repr=False)
    token_id: bytes
    token_ciphers: dict[bytes, AESGCM]

    @classmethod
    def parse(cls, secrets: str, digest_secret: str | None = None) -> "KeyRing":
        """Build the ring from `newest,older,...`, each at least 32 characters; ValueError says what is wrong.

        Without a `digest_secret` the oldest secret serves for digests as well.
        """
        ring = [secret.strip() for secret in secrets.split(",") if secret.strip()]
        if not ring:
            raise ValueError("MULTITUDE_SECRET_KEYS is not set: without a key nothing personal can be stored")
        if any(len(secret) < MINIMUM_SECRET_LENGTH for secret in [*ring, digest_secret or ring[0]]):
            raise ValueError(f"a secret key is shorter than {MINIMUM_SECRET_LENGTH} characters")
        ciphers = dict(_cipher(secret, "key-id", "seal") for secret in ring)
        if len(ciphers) < len(ring):
            raise ValueError("two secret keys are the same, or share an id: make a new one")
        lasting = digest_secret or ring[-1]
        token_id, token_cipher = _cipher(lasting, "token-key-id", "token")
        # Tokens were once sealed by row keys: those of the lasting secret must open even when it seals no row any more.
        token_ciphers = dict([_cipher(lasting, "key-id", "seal")]) | {token_id: token_cipher}
        return cls(next(iter(ciphers)), ciphers, _derive(lasting, "multitude/digest", 32), token_id, token_ciphers)

    def seal(self, plain: bytes, identity: bytes) -> bytes:
        """Seal for one row; `identity` names table, column and row."""
        return _seal(self.current_id, self.ciphers, plain, identity)

    def open(self, sealed: bytes, identity: bytes) -> bytes:
        """The plain value; SealBrokenError when it is forged, moved, cut short or of an unknown key."""
        return _open(self.ciphers, sealed, identity)

    def lacks_key_of(self, sealed: bytes) -> bool:
        """Whether the value was sealed by a key that is not in this ring: another ring may open it."""
        return len(sealed) > KEY_ID_BYTES and sealed[:KEY_ID_BYTES] not in self.ciphers

    def seal_token(self, plain: bytes, identity: bytes) -> bytes:
        """Seal a token, which must open for as long as the digest secret lasts, whichever keys rotate."""
        return _seal(self.token_id, self.token_ciphers, plain, identity)

    def open_token(self, sealed: bytes, identity: bytes) -> bytes:
        """The plain value of a token, also of an old one sealed by a row's key; SealBrokenError as for `open`."""
        try:
            return _open(self.token_ciphers, sealed, identity)
        except SealBrokenError:
            return _open(self.ciphers, sealed, identity)

    def write_token(self, plain: bytes, identity: bytes) -> str:
        """A sealed token as it stands in a link: base64url, 40 characters and four for three bytes."""
        return base64url.encode(self.seal_token(plain, identity))

    def read_token(self, token: str, identity: bytes) -> bytes:
        """What a token from a link holds; SealBrokenError when we have not written it."""
        try:
            sealed = base64url.decode(token)
        except ValueError:
            raise SealBrokenError from None
        return self.open_token(sealed, identity)

    def digest(self, value: str) -> bytes:
        """The keyed digest of a value: always the same, and nobody without the key can compute it."""
        return keyed_digest(self.digest_key, value)

    def fingerprint(self) -> str:
        """Identifies the digest key without revealing it; the database stores it (`kit/crypto/key_ring_guard.py`)."""
        return hashlib.sha256(b"multitude/fingerprint" + self.digest_key).hexdigest()[:32]
