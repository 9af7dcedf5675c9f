"""What partners send and are told about the secrets by which they sign what they post."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from app.kit.text.fields import Body, Line, Moment, View
from app.partners.inbound.secrets.service import key_of
from app.partners.models import Scheme

_SHORTEST_KEY, _LONGEST_KEY = 24, 64


class WebhookSecretBody(Body):
    """A new secret. It is made for you unless you bring the one your system has given you."""

    scheme: Annotated[Scheme, Field(description="how what you post is signed")] = "standard"
    label: Annotated[Line | None, Field(description="what it is for", examples=["our web site"])] = None
    secret: Annotated[
        Annotated[str, StringConstraints(min_length=16, max_length=200)] | None,
        Field(
            description="your own; for `standard` `whsec_` and the base64 of 24 to 64 bytes, for `controlshift` 16 to "
            "200 printable characters; not for `action_network`"
        ),
    ] = None
    expires_at: Annotated[Moment | None, Field(description="in the future; one without it does not expire")] = None

    @field_validator("secret")
    @classmethod
    def _fits_its_scheme(cls, secret: str | None, info: ValidationInfo) -> str | None:
        scheme = info.data.get("scheme")
        if secret is None:
            return None
        if scheme == "action_network":
            raise ValueError("cannot be brought for action_network: it becomes part of the address to post to")
        if not secret.isprintable():
            raise ValueError("must consist of printable characters")
        if scheme == "standard" and not _is_standard(secret):
            raise ValueError("must be whsec_ followed by the base64 of 24 to 64 bytes")
        return secret


def _is_standard(secret: str) -> bool:
    try:
        return _SHORTEST_KEY <= len(key_of(secret)) <= _LONGEST_KEY
    except ValueError:
        return False


class WebhookSecretView(View):
    """A secret, without what would sign anything."""

    id: UUID
    scheme: Scheme
    label: str | None
    live: Annotated[bool, Field(description="whether what it signs is taken now")]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: Annotated[datetime | None, Field(description="to the minute")]


class NewWebhookSecretView(WebhookSecretView):
    """A secret at the one moment when it is shown."""

    secret: Annotated[str, Field(description="keep it: it is not shown again")]
