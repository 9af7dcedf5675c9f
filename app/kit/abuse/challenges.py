"""Challenges: a proof of work (ALTCHA) that costs a person a moment and whoever signs by the thousand a lot.

Protocol: PoW v2, which ALTCHA's widget speaks from version 3 on (older widgets speak v1 and are not served). The widget
fetches `{"parameters": ..., "signature": ...}` and puts the base64 of
`{"challenge": <the same>, "solution": {"counter", "derivedKey"}}` into the form's field `altcha`.

The counter to be found is drawn beforehand, so that the work has an upper bound and the derived key can be signed: a
solution is then verified without deriving it again.
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
# One try took 0.3 ms in Python and 0.47 ms in Node's WebCrypto, on one core of a server. Up to 4,096 tries are thus
# 1 s on average and 2 s at most, for one thread; the widget starts one for each core. No phone was measured.
_COST = 1000
EFFORT = 4096
LIFETIME = 600
# Longer than any challenge lives, and the only limit of this length: others cannot push a used challenge out.
_ONCE = "1 per 11 minutes"
# A payload of the widget has about 830 characters.
_LONGEST = 4096


class ChallengeFailed(Invalid):
    """The challenge is not solved."""

    slug = "challenge-failed"


class Challenges:
    """Makes challenges and verifies solutions. A challenge is good once, for one purpose, for ten minutes.

    Making one took 0.3 to 0.6 ms, verifying a solution 0.06 ms: neither is worth a thread.

    With several processes and no shared store of limits, it is good once in each process.
    """

    def __init__(self, ring: KeyRing, limiter: Limiter, *, effort: int = EFFORT, lifetime: int = LIFETIME) -> None:
        self._secret = _derived(ring, b"multitude/challenge")
        self._key_secret = _derived(ring, b"multitude/challenge-key")
        self._limiter = limiter
        self._effort = effort
        self._lifetime = lifetime

    def make(self, purpose: str) -> dict[str, Any]:
        """A challenge as the widget reads it. `purpose` is told to the client: a petition's id, for example."""
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
        """Take a solution, once.

        ChallengeFailed when it is missing, malformed, forged, expired, used, or of another purpose; Unavailable when
        the shared store cannot say whether it has been used.
        """
        nonce = self._solved(purpose, payload or "")
        within = await self._limiter.hit(_ONCE, "challenge", nonce)
        # This process alone has counted: another may have taken it before.
        if self._limiter.lost:
            raise Unavailable("Solutions cannot be verified right now.")
        if not within:
            raise _failed()

    def _solved(self, purpose: str, payload: str) -> str:
        """The nonce of a challenge of ours that was solved."""
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
    """From the key that never rotates: a challenge that is out survives a rotation."""
    return HKDF(hashes.SHA256(), 32, salt=None, info=purpose).derive(ring.digest_key)
