"""Schemas of moderation: invalidations and their rules, signatures on hold, trends, retention.

`RuleBody` is the one list of what a rule can ask: each field carries its SQL (`Matches`), from which `rules.py` makes
the statements and their parameters.
"""

from collections.abc import Callable
from datetime import date, datetime
from typing import Annotated, Any, Literal, NamedTuple, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, model_validator

from app.kit.crypto.sealing import KeyRing
from app.kit.text.countries import Country
from app.kit.text.fields import Body, Line, Moment, Slug
from app.people.fields import emails
from app.petitions.schemas import Source
from app.signatures.models import InvalidationState
from app.signatures.signing import email_domains
from app.signatures.signing.email_domains import domain_of

_MOST_VALUES = 1000


def _mail_domain(name: str) -> str:
    """The domain in the form in which addresses under it are digested; ValueError when no address can be."""
    try:
        return domain_of(emails.canonical(emails.validated(f"somebody@{name}")))
    except ValueError:
        raise ValueError("is not a mail domain") from None


MailDomain = Annotated[str, StringConstraints(max_length=253), AfterValidator(_mail_domain)]
AddressDigest = Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{16}$", to_lower=True)]
_values = Field(min_length=1, max_length=_MOST_VALUES)


def _whole_minute(moment: datetime) -> datetime:
    if moment.second or moment.microsecond:
        raise ValueError("must be a whole minute")
    return moment


# A window that could be moved second by second would find one signature in it.
Minute = Annotated[Moment, AfterValidator(_whole_minute), Field(examples=["2026-03-01T12:30:00Z"])]


def _address_digest(_ring: KeyRing, digits: str) -> bytes:
    return bytes.fromhex(digits)


class Matches(NamedTuple):
    """How a field of a rule is compared with a row `o` of signatures: the SQL type of its parameter, and the condition.

    `digest` makes the parameter of each value, where the row holds a digest. `personal_column`: the column that holds
    it, where a value may stand for one person alone: a rule may name only such as enough signatures share.
    """

    sql_type: str
    condition: str
    digest: Callable[[KeyRing, str], bytes] | None = None
    personal_column: str = ""

    def sql(self, parameter: str) -> str:
        """The condition for this parameter; NULL matches every row."""
        return f"({parameter}::{self.sql_type} IS NULL OR {self.condition.format(value=parameter)})"

    def value(self, ring: KeyRing, given: Any) -> Any:
        """The parameter for what staff gave."""
        if given is None or self.digest is None:
            return given
        return [self.digest(ring, each) for each in given]


class RuleBody(Body):
    """Which signatures: fields are joined by "and", the values of one field by "or"."""

    mail_domains: Annotated[
        Annotated[list[MailDomain], _values, Field(examples=[["example.org"]])] | None,
        Matches("bytea[]", "o.domain_digest = ANY ({value})", email_domains.digest, "domain_digest"),
    ] = None
    address_digests: Annotated[
        Annotated[list[AddressDigest], _values, Field(description="as trends show them")] | None,
        Matches("bytea[]", "o.address_digest = ANY ({value})", _address_digest, "address_digest"),
    ] = None
    sources: Annotated[
        Annotated[list[Source], _values, Field(description="an empty one: without a source")] | None,
        Matches("text[]", "o.source = ANY ({value})"),
    ] = None
    countries: Annotated[
        Annotated[list[Country], _values] | None,
        Matches("text[]", "o.country = ANY ({value})"),
    ] = None
    partner: Annotated[
        Slug | None,
        Field(description="the partner that brought them"),
        Matches("uuid", "o.partner_id = {value}"),
    ] = None
    signed_from: Annotated[Minute | None, Matches("timestamptz", "o.signed_at >= {value}")] = None
    signed_until: Annotated[
        Minute | None,
        Field(description="signed before this minute"),
        Matches("timestamptz", "o.signed_at < {value}"),
    ] = None
    disposable: Annotated[
        Literal[True] | None,
        Field(description="from addresses that are thrown away"),
        Matches("bool", "o.disposable IS NOT NULL"),
    ] = None
    held: Annotated[
        Literal[True] | None,
        Field(description="over the petition's limit, and not released"),
        Matches("bool", "o.held IS NOT NULL"),
    ] = None
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
        """Whether any field restricts which signatures match."""
        return any(getattr(self, name) is not None for name in RULE_FIELDS)


# The fields that restrict which signatures match, in order; `everything` only says that none is meant to.
RULE_FIELDS = {
    name: mark for name, info in RuleBody.model_fields.items() for mark in info.metadata if isinstance(mark, Matches)
}


class InvalidationBody(Body):
    """Why, and which signatures."""

    reason: Line
    rule: RuleBody


class KeyCount(BaseModel):
    """One key's part of a count."""

    key: str
    signature_count: int


class DryRun(BaseModel):
    """About how much the rule would invalidate at this moment; the parts of each breakdown sum to the count.

    All counts are rounded down to tens, by a border that is moved each hour: two rules that differ by few signatures
    are told alike. 5 stands for five and some more. Fewer than five, or none, are null, and the breakdowns are empty.
    """

    signature_count: Annotated[int | None, Field(description="in tens; 5: five or some more; null: fewer than five")]
    by_country: Annotated[list[KeyCount], Field(description="`other`: what is too small to be told by itself")]
    by_hour: Annotated[list[KeyCount], Field(description="hours in UTC, and `other`")]
    by_state: Annotated[dict[str, int], Field(description="`pending`, `confirmed` and `other`")]


class InvalidationItem(BaseModel):
    """An invalidation in a list. `slice` of `slice_count` are done; should any signature be left, it begins anew."""

    id: UUID
    petition_id: UUID
    state: InvalidationState
    reason: str
    rule: Annotated[RuleBody | None, Field(description="null when no key of the service opens it: draft it again")]
    signed_before: Annotated[datetime | None, Field(description="later signatures are not touched; null in a draft")]
    slice: int
    slice_count: int
    invalidated_count: Annotated[int | None, Field(description="null: begun, and fewer than five")]
    restored_count: Annotated[int | None, Field(description="null: begun, and fewer than five")]
    created_at: datetime
    updated_at: datetime


class InvalidationView(InvalidationItem):
    """One invalidation; with a dry run as long as it is a draft, and in the answer that begins to apply it."""

    dry_run: DryRun | None


class SharedAddress(BaseModel):
    """A client address that has signed more often in the last hour than the petition's limit says."""

    address_digest: str
    signature_count: int
    confirmed_count: Annotated[int | None, Field(description="those that count; null: fewer than five")]


class HeldView(BaseModel):
    """How many signatures are over a limit and wait, whether they are being released, and where many came from."""

    held_count: Annotated[int, Field(description="wait for staff")]
    asked_count: Annotated[int, Field(description="wait for their signer to confirm by mail, for they were too many")]
    releasing: bool
    shared_addresses: Annotated[list[SharedAddress], Field(description="the largest 20, at most five seconds old")]


class TrendRow(BaseModel):
    """One key's part; `null` stands for all that are not shown by themselves."""

    key: str | None
    signature_count: int


class TrendsView(BaseModel):
    """Who has signed in the last full minutes. Each list sums to the count and shows its 20 largest keys.

    What fewer than five signatures share is not shown by itself. With `basis: proven` only signatures that their
    signers have confirmed by mail are counted. With `basis: unproven` nobody can tell: anybody may have typed them, so
    a mail domain is shown only above fifty, in tens.
    """

    minutes: int
    basis: Literal["proven", "unproven"]
    signature_count: Annotated[int, Field(description="those counted in the lists")]
    unproven_count: Annotated[int | None, Field(description="in tens: those in no list, for nobody has proven them")]
    held_count: Annotated[int, Field(description="in tens")]
    disposable_count: Annotated[int, Field(description="in tens")]
    by_address_digest: list[TrendRow]
    by_mail_domain: list[TrendRow]
    by_source: Annotated[list[TrendRow], Field(description="an empty key: without a source")]
    as_of: Annotated[datetime, Field(description="the end of the last full minute")]


class RetentionView(BaseModel):
    """Whose personal data is destroyed once the day has come and the petition is closed, as of now."""

    personal_data_until: date | None
    destroyed_at: datetime | None
    would_destroy: Annotated[dict[str, int], Field(description="by the state of the signature")]
    would_keep_count: Annotated[int, Field(description="signatures of people with a consent that stands")]
