"""Schemas: what owners send and staff are given about organizations and keys."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from app.kit.text.fields import Body, Line, Moment, Name, Slug, View
from app.organizations.models import Kind
from app.organizations.principals import Role


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
    expires_at: Annotated[Moment | None, Field(description="in the future; a key without it does not expire")] = None


class ApiKeyView(View):
    """A key, without what would open anything."""

    id: UUID
    role: Role
    label: str | None
    prefix: Annotated[str, Field(examples=["mtd_owner_Ab3dEf7h…"])]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: Annotated[datetime | None, Field(description="to the minute")]


class NewApiKeyView(ApiKeyView):
    """A key at the one moment when it is shown."""

    key: Annotated[str, Field(description="keep it: it is not shown again")]
