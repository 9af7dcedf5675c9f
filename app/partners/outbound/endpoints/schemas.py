"""What organizations say of their endpoints, and are told of what was sent there.

Which message types there are is known when the rooms are put together: `schemas_for` narrows these models to them.
"""

from datetime import datetime
from operator import getitem
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar
from uuid import UUID

from fastapi import Query
from pydantic import AfterValidator, BaseModel, Field, StringConstraints, WithJsonSchema, create_model

from app.kit.database.paging import Paging
from app.kit.text.fields import Body, Line, Locale, View
from app.kit.webhooks.egress import LONGEST
from app.kit.webhooks.message_types import MessageTypes
from app.partners.models import DeliveryAttempt, EndpointState, MessageState, WebhookEndpoint, WebhookMessage
from app.partners.outbound.endpoints.sealed_config import EndpointConfig
from app.people.schemas import Email


def _each_once(types: list[str]) -> list[str]:
    return list(dict.fromkeys(types))


Url = Annotated[
    str,
    StringConstraints(min_length=1, max_length=LONGEST),
    Field(
        description="`https://host[:port][/path][?query]` in the public internet",
        examples=["https://hooks.example.org/multitude"],
    ),
]
Contact = Annotated[Email | None, Field(description="whom to write to when the endpoint is paused")]
ContactLocale = Annotated[Locale | None, Field(description="the language to write to them in", examples=["fr"])]


class WebhookEndpointBody(Body):
    """Where to send what."""

    url: Url
    types: list[str]
    label: Annotated[Line | None, Field(description="what it is for", examples=["our CRM"])] = None
    contact: Contact = None
    contact_locale: ContactLocale = None


class WebhookEndpointChanges(Body):
    """What to change: a field left out stays as it is. To activate an endpoint forgets its failures."""

    url: Annotated[Url, Field(default_factory=str)]
    types: Annotated[list[str], Field(default_factory=list)]
    label: Line | None = None
    contact: Contact = None
    contact_locale: ContactLocale = None
    state: Annotated[Literal["active", "paused"], Field(default_factory=str)]


class WebhookEndpointView(View):
    """An endpoint, without what signs."""

    id: UUID
    url: str
    types: list[str]
    label: str | None
    contact: str | None
    contact_locale: str | None
    state: EndpointState
    state_reason: Annotated[
        Literal["failing", "gone", "by_hand"] | None,
        Field(
            description="`failing`: nothing was taken for a day; `gone`: it answered 410; `by_hand`: you asked for it"
        ),
    ]
    failing_since: datetime | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, endpoint: WebhookEndpoint, config: EndpointConfig) -> Self:
        """Of a row, and what is sealed in it."""
        sealed = {name: getattr(config, name) for name in ("url", "contact", "contact_locale")}
        columns = {name: getattr(endpoint, name) for name in cls.model_fields if name not in {*sealed, "secret"}}
        return cls(**columns, **sealed)


class NewWebhookEndpointView(WebhookEndpointView):
    """An endpoint at the one moment when its secret is shown."""

    secret: Annotated[str, Field(description="keep it: it is not shown again")]


class EndpointSecretView(View):
    """A new secret at the one moment when it is shown."""

    secret: Annotated[str, Field(description="keep it: it is not shown again")]
    former_until: Annotated[datetime, Field(description="until then the former secret signs beside it")]


class MessagePaging(Paging):
    """What a client asks of the list of messages."""

    state: Annotated[MessageState | None, Query()] = None
    type: Annotated[str | None, Query()] = None


class WebhookMessageView(View):
    """A message, and what has become of it."""

    id: UUID
    webhook_id: Annotated[str, Field(description="the `webhook-id` of every attempt")]
    type: str
    state: Annotated[
        MessageState,
        Field(description="`dead`: not sent any more; `void`: there was nothing left to tell when it was to be sent"),
    ]
    attempt_count: Annotated[int, Field(description="since it was made, or replayed last")]
    due_at: Annotated[datetime | None, Field(description="not sent before; null when it is not to be sent")]
    created_at: datetime
    delivered_at: datetime | None

    @classmethod
    def of(cls, message: WebhookMessage, endpoint: WebhookEndpoint) -> Self:
        """Of a row: where order is kept, the endpoint may know that it waits for another."""
        due_at = message.due_at if message.state == "due" else None
        if due_at and message.ordered and endpoint.ordered_due_at:
            due_at = max(due_at, endpoint.ordered_due_at)
        columns = ("id", "type", "state", "attempt_count", "created_at", "delivered_at")
        values = {name: getattr(message, name) for name in columns}
        return cls(webhook_id=f"msg_{message.id}", due_at=due_at, **values)


class DeliveryAttemptView(View):
    """One attempt. `status_code` is null when there was no answer."""

    id: UUID
    attempted_at: datetime
    duration_ms: int
    status_code: int | None
    error: Annotated[
        str | None,
        Field(
            description="null when it was taken; else `status`, `redirect`, `timeout`, `connection`, `tls`, "
            "`unresolvable`, `refused-target`, `too-large`, `protocol`, `unwritable` or `failed`"
        ),
    ]
    answer: Annotated[str, Field(description="up to 1,024 bytes of the answer's body, as UTF-8")]

    @classmethod
    def of(cls, attempt: DeliveryAttempt, answer: bytes) -> Self:
        """Of a row, and the answer that is sealed in it."""
        columns = ("id", "attempted_at", "duration_ms", "status_code", "error")
        values = {name: getattr(attempt, name) for name in columns}
        return cls(answer=answer.decode(errors="replace").replace("\x00", "\ufffd"), **values)


class EndpointSchemas(NamedTuple):
    """The models above, narrowed to the message types of this process."""

    body: type[WebhookEndpointBody]
    changes: type[WebhookEndpointChanges]
    view: type[WebhookEndpointView]
    new_view: type[NewWebhookEndpointView]
    paging: type[MessagePaging]


def schemas_for(types: MessageTypes) -> EndpointSchemas:
    """What is asked for is checked; what is shown may be of a type that only another version knows."""
    chosen: Any = Annotated[
        list[_one_of(types.subscribable)],  # type: ignore[misc]
        Field(
            min_length=1,
            max_length=20,
            description="; ".join(f"`{one.name}`: {one.description}" for one in types if one.is_subscribable),
        ),
        AfterValidator(_each_once),
    ]
    names = list(types.subscribable)
    shown: Any = list[Annotated[str, WithJsonSchema({"type": "string", "enum": names})]]
    sent: Any = _one_of(types.subscribable) | _one_of(types.unsubscribable) | None
    return EndpointSchemas(
        body=_narrowed(WebhookEndpointBody, types=chosen),
        changes=_narrowed(WebhookEndpointChanges, types=Annotated[chosen, Field(default_factory=list)]),
        view=_narrowed(WebhookEndpointView, types=shown),
        new_view=_narrowed(NewWebhookEndpointView, types=shown),
        paging=_narrowed(MessagePaging, type=(Annotated[sent, Query()], None)),
    )


_Schema = TypeVar("_Schema", bound=BaseModel)


def _narrowed(model: type[_Schema], **fields: Any) -> type[_Schema]:
    return create_model(model.__name__, __base__=model, __doc__=model.__doc__, __module__=model.__module__, **fields)


def _one_of(names: tuple[str, ...]) -> Any:
    return getitem(Literal, names)
