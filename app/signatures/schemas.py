"""Schemas of signing: what signers send, and what they and readers are answered.

`SignatureBody` is the one list of what a signer says: a field marked `Sealed` is stored in the sealed record
(`signing/sealing.py`), any other in clear.
"""

import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.kit.text.countries import Country
from app.kit.text.fields import Body, Line, Locale, Moment, Name, Paragraph, View
from app.people.consents.words import ConsentInWords
from app.people.schemas import Consent, Email
from app.petitions.schemas import Region, Source
from app.signatures.dimensions import NAMES

_REFERRAL = re.compile(r"(group|event):([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")

# Consents with one signature.
MOST_CONSENTS = 20

PostalCode = Annotated[str, StringConstraints(strip_whitespace=True, max_length=20, pattern=r"^[A-Za-z0-9 -]*$")]


class Sealed(NamedTuple):
    """Marks a field whose value is stored sealed. `short` is its name in the sealed record, and never changes."""

    short: str


class SignatureBody(Body):
    """What one person says when they sign."""

    given_name: Annotated[Name, Sealed("g")]
    family_name: Annotated[Name, Sealed("f")]
    email: Annotated[Email, Sealed("e")]
    country: Country
    postal_code: Annotated[PostalCode | None, Sealed("p")] = None
    # Stored in clear, for tallies, as far as they are listed (`petitions/clear_text.py`).
    region: Region | None = None
    locale: Annotated[Locale | None, Sealed("l")] = None
    comment: Annotated[Paragraph | None, Sealed("c")] = None
    consents: Annotated[list[Consent], Field(max_length=MOST_CONSENTS, default_factory=list), Sealed("y")]
    source: Source | None = None
    referral: Annotated[
        Line | None,
        Field(
            description="Who led the signer here. `group:<id>` and `event:<id>` are tallied; anything else is "
            "kept with the signature, sealed.",
            examples=["group:0192f0c4-7d5e-7000-8000-000000000001"],
        ),
        Sealed("r"),
    ] = None

    def referred_by(self, kind: str) -> UUID | None:
        """The group or event named as referral."""
        match = _REFERRAL.fullmatch(self.referral) if self.referral else None
        return UUID(match[2]) if match and match[1] == kind else None


class Unlisted(NamedTuple):
    """What is sealed instead of standing in clear: a region and a source that are on no list; "" otherwise."""

    unlisted_region: Annotated[str, Sealed("n")] = ""
    unlisted_source: Annotated[str, Sealed("s")] = ""


class SigningBody(SignatureBody):
    """One person's signature."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "given_name": "Amina",
                    "family_name": "Okello",
                    "email": "amina@example.org",
                    "country": "UG",
                }
            ]
        }
    )

    altcha: Annotated[
        str | None,
        Field(max_length=4096, description="the solved challenge, where the petition asks for one"),
    ] = None


class ImportedSigning(SignatureBody):
    """One line of an import: a signature, and when it was given."""

    signed_at: Moment | None = None


class Links(BaseModel):
    """Where to go from a signature."""

    petition: str
    count: str
    stream: str
    withdraw: str


class SignatureView(BaseModel):
    """The answer to a signing, to a first and to a second one alike."""

    id: UUID
    status: Literal["confirmed", "pending"]
    receipt: Annotated[str, Field(description="keep it: it withdraws this signature until it is confirmed by mail")]
    links: Links


class WithdrawalBody(Body):
    """The receipt the signature came with."""

    receipt: Annotated[str, Field(min_length=1, max_length=200)]


class WithdrawalView(BaseModel):
    """After this answer nothing stands that nobody but the holder of the receipt had said.

    What was confirmed by mail is withdrawn by the receipt of the confirmation. With that of the signing, its mailbox is
    sent a link which does it; the answer is the same.
    """

    status: Literal["withdrawn"] = "withdrawn"


class LinkBody(Body):
    """The token of the link in the mail."""

    token: Annotated[str, Field(min_length=1, max_length=200)]


class ConfirmationBody(LinkBody):
    """The token of the link in the mail, and which of the consents that it showed are meant."""

    consents: Annotated[
        list[Annotated[int, Field(ge=0, lt=MOST_CONSENTS, strict=True)]],
        Field(
            max_length=MOST_CONSENTS,
            default_factory=list,
            description="the `number` of each consent that the person has ticked; one that is not named is not given",
        ),
    ]


class ConfirmationPreview(BaseModel):
    """What a link would confirm. Once it is confirmed, no more than that it is."""

    status: Literal["unconfirmed", "confirmed"]
    petition_id: UUID
    petition: Annotated[str, Field(description="its slug")]
    title: str
    counts: Annotated[
        bool,
        Field(
            description="a signature with this address is counted under this petition already, as its `confirmation` "
            "is `none`: so whoever did not sign takes it away by `POST .../withdrawals`, with this token as the receipt"
        ),
    ] = False
    given_name: str | None = None
    family_name: str | None = None
    country: str | None = None
    region: str | None = None
    postal_code: str | None = None
    comment: str | None = None
    consents: list[ConsentInWords] = []


class ConfirmationLinks(BaseModel):
    """Where to go from a confirmation."""

    petition: str
    count: str
    stream: str
    withdraw: str


class ConfirmationView(BaseModel):
    """The answer to a link that was followed, for the first time or again."""

    status: Literal["confirmed"] = "confirmed"
    receipt: Annotated[
        str, Field(description="keep it instead of the one of the signing: it alone withdraws what is confirmed")
    ]
    links: ConfirmationLinks


class ChallengeView(BaseModel):
    """A challenge, as the ALTCHA widget reads it."""

    parameters: dict[str, Any]
    signature: str | None = None


class OwnSignatureView(View):
    """A signature, as its signer sees it."""

    id: UUID
    petition_id: UUID
    slug: Annotated[str, Field(description="the petition's")]
    title: str
    state: Literal["pending", "confirmed", "withdrawn"]
    signed_at: datetime
    country: str
    region: str
    source: str


class OwnSignatures(BaseModel):
    """All of somebody's signatures, newest first."""

    items: list[OwnSignatureView]


class CountView(BaseModel):
    """Just the count."""

    signature_count: int
    signature_goal: int


# The names are those of `dimensions.py`; a type checker cannot follow that, so to it they are any text.
if TYPE_CHECKING:
    DimensionName = str
else:
    DimensionName = Literal[tuple(name for name in NAMES if name != "total")]


class TallyRow(BaseModel):
    """One key's part; `null` stands for signatures without one, `other` for keys that are not told by themselves."""

    key: str | None
    signature_count: int


class TallyView(BaseModel):
    """A breakdown; the rows sum to the total."""

    by: DimensionName
    total: int
    rows: list[TallyRow]
    as_of: datetime
