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
    "signature.counted": "up to 500 signatures of persons who consent to your organization",
    "signature.withdrawn": "a signature that you brought, or may have been told of, was withdrawn",
    "person.erased": "a person whom you brought, or who ever agreed to hear from you, was erased: erase them too",
}

# Sent to each endpoint one after the other, in the order of their making: what is behind one that fails waits for it.
ORDERED = ("signature.counted", "signature.withdrawn", "person.erased")

# Asked for by whoever set the endpoint up; every endpoint takes it, no order is kept.
TEST = "webhook.test"

# All that this version can write.
KNOWN = {*TYPES, TEST}

if set(TYPES) != set(get_args(TypeName)):  # pragma: no cover
    raise AssertionError("a type is listed in one place only")
