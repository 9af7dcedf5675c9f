"""The sealed columns of this room, for the key rotation."""

from app.kit.crypto.key_rotation import SealedColumn
from app.people.sealing import mails_identity, people_identity, sessions_identity

PEOPLE = SealedColumn("people", {"signer": "bytea"}, "sealed", people_identity)
SESSIONS = SealedColumn("person_sessions", {"id": "uuid"}, "sealed", sessions_identity)
MAILS = SealedColumn("mails", {"id": "uuid"}, "sealed", mails_identity)
