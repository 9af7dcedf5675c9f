"""Key rotation: the sealed columns of this room, and its keyed digests."""

from app.kit.crypto.digest_rotation import DigestedTable
from app.kit.crypto.key_rotation import SealedColumn
from app.people.sealing import contacts_identity, mails_identity, people_identity, sessions_identity

PEOPLE = SealedColumn("people", {"signer": "bytea"}, "sealed", people_identity)
CONTACTS = SealedColumn("contacts", {"organization_id": "uuid", "signer": "bytea"}, "sealed", contacts_identity)
SESSIONS = SealedColumn("person_sessions", {"id": "uuid"}, "sealed", sessions_identity)
MAILS = SealedColumn("mails", {"id": "uuid"}, "sealed", mails_identity)

_ID = {"id": "uuid"}
DIGESTED = [
    DigestedTable("people", {"signer": "bytea"}, ["signer"], sealed={"sealed": people_identity}),
    DigestedTable(
        "contacts",
        {"organization_id": "uuid", "signer": "bytea"},
        ["signer"],
        sealed={"sealed": contacts_identity},
    ),
    # What somebody has said is not changed by this: only the number that stands for them.
    DigestedTable("consents", _ID, ["signer"], guard="appended_to"),
    DigestedTable("sign_ins", _ID, ["signer"]),
    DigestedTable("person_sessions", _ID, ["signer"]),
    DigestedTable("mails", _ID, ["signer"]),
]
