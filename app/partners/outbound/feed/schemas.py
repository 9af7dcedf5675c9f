"""What an organization is told of those who consented to it, in a webhook or when it asks."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field

PersonId = Annotated[
    str,
    Field(
        description="the person: the same whatever you are told of them, and another one for every organization",
        examples=["per_3f2b8c1d5e6f708192a3b4c5d6e7f809"],
    ),
]


class SignerConsent(BaseModel):
    """The consent to your organization, as it stands now."""

    text_version: Annotated[str | None, Field(description="version of your text that was agreed to", examples=["en-3"])]
    decided_at: datetime
    proven: Annotated[bool, Field(description="whether it is sure that it was they who said so")]


class SignerView(BaseModel):
    """A confirmed signature of somebody who consents to your organization."""

    signature_id: UUID
    person_id: PersonId
    petition_id: UUID
    petition: Annotated[str, Field(description="its slug", examples=["repeal-the-act"])]
    given_name: str
    family_name: str
    email: str
    country: str
    region: str | None
    postal_code: str | None
    locale: str | None
    signed_at: datetime
    consent: SignerConsent
    reference: Annotated[str | None, Field(description="your own id of the signature, if it was you who brought it")]


class SignersPage(BaseModel):
    """Those who consented to you, in the order in which that became known here.

    Whoever took it back, withdrew or was erased since then is left out, so a page may have fewer items than asked for,
    or none. Somebody who said so several times may come up again.
    """

    items: list[SignerView]
    next_cursor: Annotated[str | None, Field(description="null when there is no more now")]
    cursor: Annotated[str, Field(description="keep it, and ask with it later for what has come since")]
