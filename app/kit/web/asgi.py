"""The types of ASGI, the interface between the server and the application."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

# Key of a scope under which the server may have put a function: an answer without end calls it once its head is sent,
# and no longer counts among its client's requests.
STREAMING = "multitude.streaming"
