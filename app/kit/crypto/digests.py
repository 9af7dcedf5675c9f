"""Keyed digests, and how a leaked digest key is made worthless without asking anybody for their address again.

A digest is the first 16 bytes of HMAC-SHA256 under the digest key. When that key has leaked, the digests are wrapped:
each is enciphered as one block of AES-256 under a wrapping key, and what was known by the digest is known by the
wrapped one. That is a permutation, so no two people become one, nobody is lost whose address is not kept any more, and
the former digest can be had back where it must (a pseudonym lasts). Whoever has the leaked key alone computes digests
that are nowhere. Wrapping can be repeated; the first key stays needed.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from functools import lru_cache
from threading import get_ident

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

DIGEST_BYTES = 16


def keyed_digest(key: bytes, value: str | bytes) -> bytes:
    """The first 16 bytes of HMAC-SHA256."""
    return hmac.digest(key, value.encode() if isinstance(value, str) else value, "sha256")[:DIGEST_BYTES]


# Made once, since that takes several times as long as using them; by each thread, for they are not to be shared.
@lru_cache(64)
def _block_cipher(key: bytes, _thread: int) -> tuple[CipherContext, CipherContext]:
    """What enciphers and what deciphers single blocks: a permutation and its inverse."""
    # ECB is the name of no mode at all, and a single block needs none.
    cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305
    return cipher.encryptor(), cipher.decryptor()


def _enciphered(key: bytes, block: bytes) -> bytes:
    return _block_cipher(key, get_ident())[0].update(block)


def _deciphered(key: bytes, block: bytes) -> bytes:
    return _block_cipher(key, get_ident())[1].update(block)


@dataclass(frozen=True, slots=True)
class DigestKeys:
    """The first digest key, and those that wrap its digests, the oldest first."""

    first: bytes = field(repr=False)
    wrapping: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def newest(self) -> bytes:
        """What new keys are derived from: the newest of them, which has not leaked."""
        return self.wrapping[-1] if self.wrapping else self.first

    def digest(self, value: str) -> bytes:
        """The digest of a value, 16 bytes: always the same, and nobody without all keys can compute it."""
        return self.wrap(keyed_digest(self.first, value))

    def short_digest(self, value: str, length: int) -> bytes:
        """A digest that only groups, of fewer bytes."""
        return self.wrap_short(keyed_digest(self.first, value)[:length])

    def wrap(self, digest: bytes, since: int = 0) -> bytes:
        """A digest made when `since` wrapping keys were in use, under all of them."""
        for key in self.wrapping[since:]:
            digest = _enciphered(key, digest)
        return digest

    def wrap_short(self, digest: bytes, since: int = 0) -> bytes:
        """The same for a short digest. It cannot be undone."""
        for key in self.wrapping[since:]:
            digest = hmac.digest(key, digest, "sha256")[: len(digest)]
        return digest

    def unwrap(self, digest: bytes) -> bytes:
        """The digest as it was under the first key alone."""
        for key in reversed(self.wrapping):
            digest = _deciphered(key, digest)
        return digest

    def fingerprint(self) -> str:
        """Identifies the keys without revealing them."""
        return hashlib.sha256(b"multitude/fingerprint" + self.first + b"".join(self.wrapping)).hexdigest()[:32]
