"""What endpoints are told, as the service's description lists it under `webhooks` (OpenAPI 3.1)."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from app.kit.webhooks import signing as webhooks
from app.partners.outbound.message_types.schemas import PAYLOADS

_HEADERS = {
    webhooks.ID: "the same whenever this message is sent again",
    webhooks.TIMESTAMP: "seconds since 1970, of this sending",
    webhooks.SIGNATURE: "`v1,` and a signature (Standard Webhooks); two of them while a secret is being replaced",
}
_DESCRIBED: dict[str, Any] = {
    "security": [],
    "parameters": [
        {"name": name, "in": "header", "required": True, "description": description, "schema": {"type": "string"}}
        for name, description in _HEADERS.items()
    ],
    "responses": {
        "2XX": {"description": "It has arrived."},
        "410": {"description": "Send nothing to this address any more: the endpoint is disabled."},
        "default": {"description": "It is sent again later, for up to three days."},
    },
}

router = APIRouter(tags=["webhooks"])


def _describe(type_: str, payload: type[BaseModel]) -> None:
    def told(body: BaseModel) -> None:
        del body

    told.__name__ = type_.replace(".", "_")
    told.__doc__ = payload.__doc__
    told.__annotations__["body"] = payload
    router.post(type_, status_code=204, operation_id=told.__name__, openapi_extra=_DESCRIBED)(told)


for _type, _payload in PAYLOADS.items():
    _describe(_type, _payload)
