"""What endpoints are told, as the service's description lists it under `webhooks` (OpenAPI 3.1)."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from app.kit.webhooks import signing as webhooks
from app.kit.webhooks.message_types import MessageType, MessageTypes

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


def webhooks_router(types: MessageTypes) -> APIRouter:
    """A router that serves nothing: FastAPI describes the webhooks from it."""
    router = APIRouter(tags=["webhooks"])
    for one in types:
        _describe(router, one)
    return router


def _describe(router: APIRouter, type_: MessageType) -> None:
    def receive(body: BaseModel) -> None:
        del body

    receive.__name__ = type_.name.replace(".", "_")
    receive.__doc__ = type_.payload.__doc__
    receive.__annotations__["body"] = type_.payload
    router.post(type_.name, status_code=204, operation_id=receive.__name__, openapi_extra=_DESCRIBED)(receive)
