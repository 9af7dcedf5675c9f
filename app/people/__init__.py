"""One person per canonical e-mail, known by the `signer` digest; what they consent to; and their own page.

A person has a row only once there is more to keep than a signature: a consent, a session, a phone number. What can
name somebody is sealed. The ledger of consents is append-only; the entry that counts for an organization and a purpose
is the latest proven one (`consents/service.py`). Only an erasure, which the person or a data officer for them asks for,
deletes entries.

The rooms above know more of a person than this one (signatures, later memberships). Each says what it keeps through a
`PersonalDataStore` (`kit/room_interface.py`), so that everything can be exported and erased from here.
"""
