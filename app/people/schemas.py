"""Schemas: what people and organizations send about people and consents, and what they are given."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal
from unicodedata import normalize
from urllib.parse import unquote
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, model_validator

from app.kit.database.paging import Paging
from app.kit.text.fields import Body, Flag, Line, Locale, Name, Slug, Text, View, changed
from app.people.fields import emails, geo, phones
from app.people.models import Purpose

Email = Annotated[
    str,
    StringConstraints(max_length=320),
    AfterValidator(emails.validated),
    Field(examples=["amina@example.org"], json_schema_extra={"format": "email"}),
]
TextVersion = Annotated[Line | None, Field(description="version of the text that was shown", examples=["en-3"])]


# Front ends put an address, a name or a token into what may follow a path: none of that is taken.
_BEHIND_A_PATH = re.compile(r"[?#@\s\x00-\x1f\x7f-\x9f]")


def _host_and_path(value: str) -> str:
    plain = normalize("NFKC", value)
    while (decoded := normalize("NFKC", unquote(plain))) != plain:
        plain = decoded
    if _BEHIND_A_PATH.search(plain):
        raise ValueError("must be a host and a path, and nothing else")
    return value


PageOfAsking = Annotated[
    Annotated[Line, AfterValidator(_host_and_path), Field(json_schema_extra={"pattern": r"^[^?#@\s]+$"})] | None,
    Field(description="where it was given: host and path", examples=["example.org/sign"]),
]


class ConsentBody(Body):
    """A word on one organization's asking, given on one's own page: to stay in touch, to keep a phone number or a
    place."""

    organization: Slug
    purpose: Purpose = "news"
    given: Flag
    text_version: TextVersion = None


class Consent(ConsentBody):
    """A signer's word on one organization's asking: to stay in touch. All else is asked on one's own page."""

    purpose: Literal["news"] = "news"
    page: PageOfAsking = None


class ConsentTextBody(Body):
    """The next version of what an organization asks, for a purpose, in a locale."""

    purpose: Purpose = "news"
    locale: Annotated[Locale, Field(examples=["en"])]
    body: Annotated[Text, Field(examples=["I would like to hear from Sisters of Kampala by e-mail."])]


class ConsentTextView(View):
    """What people are asked. A version never changes."""

    purpose: Purpose
    locale: str
    version: Annotated[str, Field(examples=["en-3"])]
    body: str
    created_at: datetime


class ConsentTextPaging(Paging):
    """Which texts to list."""

    all: Annotated[bool, Field(description="former versions too; for staff, and a partner's own")] = False


class ConsentingPersonView(BaseModel):
    """Somebody who has agreed to hear from an organization, and not taken it back."""

    given_name: str | None
    family_name: str | None
    email: str
    locale: str | None
    decided_at: datetime
    proven: Annotated[bool, Field(description="whether it is sure that it was they who said so")]
    text_version: str | None


class SignInBody(Body):
    """Whoever wants to sign in."""

    email: Email
    locale: Locale | None = None
    device: Annotated[
        str | None, Field(max_length=200, description="what the last sign-in on this device gave; a cookie as well")
    ] = None


class SignInView(BaseModel):
    """The same for everybody. The link in the mail works only together with the binding."""

    binding: Annotated[str, Field(description="to be kept by the browser that asked; it is a cookie as well")]
    expires_in: Annotated[int, Field(description="seconds")]


class SessionBody(Body):
    """The token of the link, and the binding, unless its cookie is sent along."""

    token: Annotated[str, Field(min_length=1, max_length=2000)]
    binding: Annotated[str | None, Field(max_length=1000)] = None


class NewSessionView(View):
    """A session at the one moment when its key is shown."""

    id: UUID
    key: Annotated[str, Field(description="keep it: it is not shown again")]
    expires_at: datetime
    device: Annotated[
        str, Field(description="to be kept on this device, for the next sign-in; it opens nothing, and is a cookie too")
    ]


class SessionView(View):
    """A device somebody is signed in on."""

    id: UUID
    created_at: datetime
    last_used_at: Annotated[datetime, Field(description="to the minute")]
    expires_at: datetime
    current: Annotated[bool, Field(description="the one this was asked with")] = False


class PersonView(BaseModel):
    """What is kept of a person beside what they have signed."""

    email: str
    given_name: str | None
    family_name: str | None
    locale: str | None
    phone: str | None
    cell: Annotated[str | None, Field(description="a cell of the H3 grid, of resolution 7 at the finest")]


class Point(Body):
    """A place, in degrees. It is turned into a cell and forgotten."""

    latitude: Annotated[FiniteFloat, Field(ge=-90, le=90)]
    longitude: Annotated[FiniteFloat, Field(ge=-180, le=180)]


class PersonChanges(Body):
    """What somebody changes of themselves; null takes it away. A phone number and a place need consent."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"given_name": "Amina", "phone": "+256772123456"}]})

    given_name: Name | None = None
    family_name: Name | None = None
    locale: Locale | None = None
    phone: Annotated[
        Annotated[str, StringConstraints(max_length=40), AfterValidator(phones.normalised)] | None,
        Field(description="with its country code", examples=["+256 772 123456"]),
    ] = None
    cell: Annotated[
        Annotated[str, StringConstraints(max_length=20), AfterValidator(geo.coarse)] | None,
        Field(description="a cell of the H3 grid; a finer one is made coarser", examples=["876a4a8a8ffffff"]),
    ] = None
    location: Annotated[Point | None, Field(description="instead of a cell; only its cell is kept")] = None

    @model_validator(mode="after")
    def _one_place(self) -> "PersonChanges":
        if {"cell", "location"} <= self.model_fields_set:
            raise ValueError("name a cell or a location, not both")
        return self

    def named(self) -> dict[str, Any]:
        """What is named, with a place as its cell."""
        named = changed(self)
        if "location" in named:
            del named["location"]
            point = self.location
            named["cell"] = geo.containing(point.latitude, point.longitude) if point else None
        return named


class ConsentView(BaseModel):
    """One entry of the ledger, with the words it was about."""

    id: UUID
    organization: str
    organization_name: str
    purpose: Purpose
    given: bool
    proven: Annotated[bool, Field(description="you said it: here, by a link in a mail, or confirming a signature")]
    latest: Annotated[bool, Field(description="whether this is the entry that counts")]
    text_version: str | None
    text: str | None
    decided_at: datetime
    petition_id: UUID | None
    partner: Annotated[str | None, Field(description="the organization that brought it")]
    page: str | None


class ErasureBody(Body):
    """What becomes of one's signatures: still counted, as anonymous numbers, or not any more."""

    signatures: Literal["keep", "withdraw"]


class ErasureOfBody(ErasureBody):
    """Whom to erase, who has asked for it by other ways than their own page."""

    email: Email


class ErasureView(BaseModel):
    """After this answer nothing of the person is left."""

    status: Literal["erased"] = "erased"
