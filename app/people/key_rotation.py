"""The sealed columns of this room, for the key rotation."""

from app.kit.crypto.key_rotation import SealedColumn
from app.people.sealing import contacts_identity, mails_identity, people_identity

PEOPLE = SealedColumn("people", {"signer": "bytea"}, "sealed", people_identity)
CONTACTS = SealedColumn("contacts", {"organization_id": "uuid", "signer": "bytea"}, "sealed", contacts_identity)
MAILS = SealedColumn("mails", {"id": "uuid"}, "sealed", mails_identity)
