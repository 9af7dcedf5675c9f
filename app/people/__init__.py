"""One person per canonical e-mail, known by the `signer` digest; what they consent to; and their own page.

A person has a row only once there is something beyond a signature to keep: a consent, a session, a phone number.
What can name somebody is sealed. The ledger of consents is only ever appended to; what counts is the latest entry
for an organization and a purpose. Only an erasure, asked for by the person, takes entries away.

The rooms above know more of a person than this one (signatures, later memberships). They say what they keep through
a `Keeper` (`stores.py`), so that everything can be shown, downloaded and erased from here.
"""
