"""Pseudonyms: the name by which one organization is told of a person, whatever it is told of them.

It stays the same for that organization, and by their names alone no two organizations can tell that they mean the same
person. What else both are told of one signature (its id, the address) does tell them.
"""

from uuid import UUID

from app.kit.crypto.sealing import KeyRing


def person_id(ring: KeyRing, organization_id: UUID, signer: bytes) -> str:
    """This person's name towards this organization: `per_` and 32 hexadecimal digits.

    What is digested holds a space and no `@`, so that it is never somebody's address.
    """
    return "per_" + ring.digest(f"person {organization_id} {signer.hex()}").hex()
