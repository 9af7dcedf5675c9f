"""Pseudonyms: each organization knows a person, and a signature, by an id of its own, whatever it is told of them.

The id stays the same for that organization. By these ids alone, no two organizations can tell that they mean the same
person or signature, and none can find it in a dump; by other facts that both are told (the e-mail address) they can.

It lasts also when the digests are wrapped under a new key (`kit/crypto/digests.py`): partners hold it, and are told by
it who is to be forgotten.
"""

from uuid import UUID

from app.kit.crypto.digests import keyed_digest
from app.kit.crypto.sealing import KeyRing
from app.organizations.principals import NO_ORGANIZATION

# As the digit that says which variant of UUIDs it is: RFC 9562's.
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
_PSEUDONYM = 8


def person_id(ring: KeyRing, organization_id: UUID, signer: bytes) -> str:
    """The pseudonym of this person for this organization: `per_` and 32 hexadecimal digits.

    The digested text holds a space and no `@`, so it can never be equal to an e-mail address.
    """
    keys = ring.digests
    return "per_" + keyed_digest(keys.first, f"person {organization_id} {keys.unwrap(signer).hex()}").hex()


def signature_id(ring: KeyRing, organization_id: UUID, id_: UUID) -> str:
    """The pseudonym of an attempt to sign for this organization: a UUIDv8 (RFC 9562, 5.8) of 122 digested bits.

    A pseudonym stays what it is; ours are of version 7. So what an older version has written down for an organization
    can be told as it is kept now.
    """
    if id_.int >> 76 & 0xF == _PSEUDONYM:
        return str(id_)
    # Spelt by hand, in half the time: every signer waits for it.
    name = keyed_digest(ring.digests.first, b"signature " + organization_id.bytes + id_.bytes).hex()
    return f"{name[:8]}-{name[8:12]}-8{name[13:16]}-{_VARIANT[name[16]]}{name[17:20]}-{name[20:]}"


def own_signature_id(ring: KeyRing, id_: UUID) -> str:
    """The pseudonym that whoever signs is told, on whosever page; no organization is told the same."""
    return signature_id(ring, NO_ORGANIZATION, id_)
