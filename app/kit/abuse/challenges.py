"""Proof-of-work challenges (ALTCHA): they cost one person a moment, and whoever signs by the thousand a lot.

Protocol: PoW v2, which ALTCHA's widget speaks from version 3 on (older widgets speak v1 and are not served). The widget
fetches `{"parameters": ..., "signature": ...}` and puts the base64 of
`{"challenge": <the same>, "solution": {"counter", "derivedKey"}}` into the form's field `altcha`.

The counter to be found is drawn when the challenge is made. So the work has an upper bound, and the derived key can be
signed: a solution is verified without deriving the key again.
"""

import secrets
from typing import Any

from altcha import Payload, create_challenge, verify_solution
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.kit.abuse.rate_limits import Limiter
from app.kit.clock import now
from app.kit.crypto.sealing import KeyRing
from app.kit.problems import Invalid, Unavailable

_ALGORITHM = "PBKDF2/SHA-256"
# One try took 0.3 ms in Python and 0.47 ms in Node's WebCrypto, on one core of a server. So up to 4,096 tries take 1 s
# on average and 2 s at most in one thread; the widget starts one thread for each core. No phone was measured.
_COST = 1000
EFFORT = 4096
LIFETIME = 600
# Longer than any challenge lives. No other limit has this length, so no other keys push a used challenge out of memory.
_ONCE = "1 per 11 minutes"
# A payload of the widget has about 830 characters.
_LONGEST = 4096


class ChallengeFailed(Invalid):
    """The challenge is not solved."""

    slug = "challenge-failed"


class Challenges:
    """Makes challenges and verifies solutions. A challenge is accepted once, for one purpose, for ten minutes.

    Making one took 0.3 to 0.6 ms, verifying a solution 0.06 ms: neither is worth a thread.

    With several processes and no shared store of rate limits, it is accepted once in each process.
    """

    def __init__(self, ring: KeyRing, limiter: Limiter, *, effort: int = EFFORT, lifetime: int = LIFETIME) -> None:
        self._secret = _derived(ring, b"multitude/challenge")
        self._key_secret = _derived(ring, b"multitude/challenge-key")
        self._limiter = limiter
        self._effort = effort
        self._lifetime = lifetime

    def make(self, purpose: str) -> dict[str, Any]:
        """A challenge as the widget reads it. The client sees the `purpose`: a petition's id, for example."""
        made = create_challenge(
            _ALGORITHM,
            _COST,
            counter=secrets.randbelow(self._effort),
            expires_at=int(now().timestamp()) + self._lifetime,
            data={"purpose": purpose},
            hmac_secret=self._secret,
            hmac_key_secret=self._key_secret,
        )
        return made.to_dict()

    async def verify(self, purpose: str, payload: str | None) -> None:
        """Accept a solution, once.

        ChallengeFailed when it is missing, malformed, forged, expired, used, or of another purpose; Unavailable when
        the shared store cannot say whether it has been used.
        """
        nonce = self._nonce_of(purpose, payload or "")
        within = await self._limiter.hit(_ONCE, "challenge", nonce)
        # Only this process has counted: another one may have accepted the solution before.
        if self._limiter.degraded:
            raise Unavailable("Solutions cannot be verified right now.")
        if not within:
            raise _failed()

    def _nonce_of(self, purpose: str, payload: str) -> str:
        """The nonce of the solved challenge; ChallengeFailed when it is not ours, not solved or of another purpose."""
        if len(payload) > _LONGEST:
            raise _failed()
        try:
            solved = Payload.from_base64(payload)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise _failed() from None
        result = verify_solution(solved, self._secret, hmac_key_secret=self._key_secret)
        parameters = solved.challenge.parameters
        if not result.verified or parameters.data != {"purpose": purpose}:
            raise _failed()
        return parameters.nonce


def _failed() -> ChallengeFailed:
    return ChallengeFailed("Ask for a new challenge and solve that one.")


def _derived(ring: KeyRing, purpose: bytes) -> bytes:
    """A key derived from the one that never rotates: a challenge handed out before a rotation stays good."""
    return HKDF(hashes.SHA256(), 32, salt=None, info=purpose).derive(ring.digest_key)
