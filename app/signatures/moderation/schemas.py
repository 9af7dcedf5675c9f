"""What staff send and are told when they invalidate signatures, release held ones, and watch over personal data."""

from datetime import date, datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, model_validator

from app.kit.text.countries import Country
from app.kit.text.fields import Body, Line, Moment, Slug
from app.people.fields import emails
from app.signatures.schemas import Source
from app.signatures.signing.email_domains import domain_of

State = Literal["draft", "applying", "applied", "undoing", "undone"]

_MOST_VALUES = 1000


def _mail_domain(name: str) -> str:
    """The domain as addresses under it are digested; ValueError when no address can be."""
    try:
        return domain_of(emails.canonical(emails.validated(f"somebody@{name}")))
    except ValueError:
        raise ValueError("is not a mail domain") from None


MailDomain = Annotated[str, StringConstraints(max_length=253), AfterValidator(_mail_domain)]
AddressDigest = Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{16}$", to_lower=True)]
_values = Field(min_length=1, max_length=_MOST_VALUES)


class RuleBody(Body):
    """Which signatures: fields are joined by "and", the values of one field by "or"."""

    mail_domains: Annotated[list[MailDomain], _values, Field(examples=[["example.org"]])] | None = None
    address_digests: Annotated[list[AddressDigest], _values, Field(description="as trends show them")] | None = None
    sources: Annotated[list[Source], _values, Field(description="an empty one: without a source")] | None = None
    countries: Annotated[list[Country], _values] | None = None
    partner: Annotated[Slug | None, Field(description="the partner that brought them")] = None
    signed_from: Moment | None = None
    signed_until: Annotated[Moment | None, Field(description="signed before this moment")] = None
    disposable: Annotated[Literal[True] | None, Field(description="from addresses that are thrown away")] = None
    held: Annotated[Literal[True] | None, Field(description="over the petition's limit, and not released")] = None
    everything: Annotated[Literal[True] | None, Field(description="said when it is meant to match every signature")] = (
        None
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.signed_from and self.signed_until and self.signed_until <= self.signed_from:
            raise ValueError("`signed_until` must be after `signed_from`")
        return self

    @property
    def narrows(self) -> bool:
        """Whether any field asks anything of a signature."""
        return any(getattr(self, name) is not None for name in RuleBody.model_fields if name != "everything")


class InvalidationBody(Body):
    """Why, and which signatures."""

    reason: Line
    rule: RuleBody


class KeyCount(BaseModel):
    """One key's part of a count."""

    key: str
    signature_count: int


class DryRun(BaseModel):
    """What the rule would invalidate at this moment; the parts of each breakdown sum to the count.

    A rule that names mail domains or client addresses and matches one to four signatures is told no more than that:
    the count is null, the breakdowns are empty.
    """

    signature_count: Annotated[int | None, Field(description="null: fewer than five, but not none")]
    by_country: list[KeyCount]
    by_hour: Annotated[list[KeyCount], Field(description="hours in UTC")]
    by_state: dict[Literal["pending", "confirmed"], int]


class InvalidationItem(BaseModel):
    """An invalidation in a list. `slice` of `slice_count` are done; should any signature be left, it begins anew."""

    id: UUID
    petition_id: UUID
    state: State
    reason: str
    rule: Annotated[RuleBody | None, Field(description="null when no key of the service opens it: draft it again")]
    signed_before: Annotated[datetime | None, Field(description="later signatures are not touched; null in a draft")]
    slice: int
    slice_count: int
    invalidated_count: int
    restored_count: int
    created_at: datetime
    updated_at: datetime


class InvalidationView(InvalidationItem):
    """One invalidation; with a dry run as long as it is a draft, and in the answer that begins to apply it."""

    dry_run: DryRun | None


class HeldView(BaseModel):
    """How many signatures are held, and whether they are being released."""

    held_count: int
    releasing: bool


class TrendRow(BaseModel):
    """One key's part; `null` stands for all that are not shown by themselves."""

    key: str | None
    signature_count: int


class TrendsView(BaseModel):
    """Who has signed in the last minutes. Each list sums to the count and shows its 20 largest keys.

    An address or a domain that fewer than five signatures share is not shown by itself.
    """

    minutes: int
    signature_count: int
    held_count: int
    disposable_count: int
    by_address_digest: list[TrendRow]
    by_mail_domain: list[TrendRow]
    by_source: Annotated[list[TrendRow], Field(description="an empty key: without a source")]
    as_of: datetime


class RetentionView(BaseModel):
    """Whose personal data is destroyed once the day has come and the petition is closed, as of now."""

    personal_data_until: date | None
    destroyed_at: datetime | None
    would_destroy: Annotated[dict[str, int], Field(description="by the state of the signature")]
    would_keep_count: Annotated[int, Field(description="signatures of people with a consent that stands")]
