"""Pseudonyms: each organization knows a person by an id of its own, whatever it is told of them.

The id stays the same for that organization. By these ids alone, no two organizations can tell that they mean the same
person; by other facts that both are told (a signature's id, the e-mail address) they can.

It lasts also when the digests are wrapped under a new key (`kit/crypto/digests.py`): partners hold it, and are told by
it who is to be forgotten.
"""

from uuid import UUID

from app.kit.crypto.digests import keyed_digest
from app.kit.crypto.sealing import KeyRing


def person_id(ring: KeyRing, organization_id: UUID, signer: bytes) -> str:
    """The pseudonym of this person for this organization: `per_` and 32 hexadecimal digits.

    The digested text holds a space and no `@`, so it can never be equal to an e-mail address.
    """
    keys = ring.digests
    return "per_" + keyed_digest(keys.first, f"person {organization_id} {keys.unwrap(signer).hex()}").hex()
