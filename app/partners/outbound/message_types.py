"""What an endpoint can be told: the one place where types of messages are listed, and which keep their order."""

from typing import Literal, get_args

TypeName = Literal[
    "petition.published",
    "petition.milestone_reached",
    "petition.closed",
    "signature.counted",
    "signature.withdrawn",
    "person.erased",
]

# Type: what it tells.
TYPES: dict[str, str] = {
    "petition.published": "a petition has opened for signatures",
    "petition.milestone_reached": "a petition has reached a milestone",
    "petition.closed": "a petition takes no more signatures",
    "signature.counted": "up to 500 signatures of persons who consented to your organization",
    "signature.withdrawn": "signatures you were told of are no longer counted",
    "person.erased": "a person you were told of has been erased here; erase them too",
}

# Sent to each endpoint one after the other, in the order of their ids: what is behind one that fails waits for it.
ORDERED = ("signature.counted", "signature.withdrawn", "person.erased")

# Asked for by whoever set the endpoint up; every endpoint takes it, no order is kept.
TEST = "webhook.test"

if set(TYPES) != set(get_args(TypeName)):  # pragma: no cover
    raise AssertionError("a type is listed in one place only")
