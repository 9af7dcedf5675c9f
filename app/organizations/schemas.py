"""Schemas: what owners send and staff are given about organizations and keys."""

from datetime import datetime
from ipaddress import ip_network
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints

from app.kit.text.fields import Body, Line, Moment, Name, Slug, View
from app.organizations.models import Kind
from app.organizations.principals import Role


def _network(value: str) -> str:
    try:
        return str(ip_network(value))
    except ValueError:
        raise ValueError("must be a network in CIDR notation, without host bits") from None


Network = Annotated[str, StringConstraints(max_length=43), AfterValidator(_network), Field(examples=["192.0.2.0/24"])]


class OrganizationBody(Body):
    """A new partner."""

    slug: Annotated[Slug, Field(examples=["sisters-of-kampala"])]
    name: Annotated[Name, Field(examples=["Sisters of Kampala"])]


class OrganizationChanges(Body):
    """What can be changed of an organization."""

    name: Name


class OrganizationView(View):
    """An organization."""

    id: UUID
    slug: str
    name: str
    kind: Kind
    created_at: datetime


class ApiKeyBody(Body):
    """A new key: staff roles for the movement, `partner` for partners."""

    role: Role
    label: Annotated[Line | None, Field(description="what or whom it is for", examples=["web site"])] = None
    expires_at: Annotated[
        Moment | None,
        Field(description="in the future; else as late as may be: with the key it is made with, or after a year"),
    ] = None
    networks: Annotated[
        list[Network] | None,
        Field(min_length=1, max_length=50, description="from where it may be used; else from everywhere"),
    ] = None
    requests_per_minute: Annotated[
        int | None, Field(ge=1, le=100_000, description="how often; else as often as the operator lets any key")
    ] = None


class ApiKeyView(View):
    """A key, without what would open anything."""

    id: UUID
    role: Role
    label: str | None
    prefix: Annotated[str, Field(examples=["mtd_owner_Ab3dEf7h…"])]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    made_by: Annotated[
        UUID | None, Field(description="the key it was made with; the nil UUID: the server's command line")
    ]
    networks: list[str] | None
    requests_per_minute: int | None
    last_used_at: Annotated[datetime | None, Field(description="to the minute")]


class NewApiKeyView(ApiKeyView):
    """A key at the one moment when it is shown."""

    key: Annotated[str, Field(description="keep it: it is not shown again")]
