"""A client of a stream: it hears each part as it comes, which a client that waits for the whole answer cannot."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from app.kit.web.asgi import Asgi
from tests.support.services import PATIENCE


class StreamClient:
    """One open stream of the application in this process."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.left = asyncio.Event()
        self.status = 0
        self.headers: dict[str, str] = {}

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def begin(self) -> None:
        message = await self.heard.get()
        self.status = message["status"]
        self.headers = {name.decode(): value.decode() for name, value in message["headers"]}

    async def hear(self, seconds: float = PATIENCE) -> str:
        """The next part; "" when the stream has ended."""
        async with asyncio.timeout(seconds):
            message = await self.heard.get()
        assert message["type"] == "http.response.body"
        return str(message.get("body", b"").decode())


@asynccontextmanager
async def open_stream(app: Asgi, path: str, headers: Mapping[str, str] | None = None) -> AsyncIterator[StreamClient]:
    """Open a stream for as long as the block lasts; whoever leaves is gone from the server too."""
    listener = StreamClient()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
        "server": ("multitude.test", 80),
        "client": ("127.0.0.1", 1),
    }
    answering = asyncio.create_task(app(scope, listener.receive, listener.heard.put))  # type: ignore[arg-type]
    try:
        await listener.begin()
        yield listener
    finally:
        listener.left.set()
        async with asyncio.timeout(PATIENCE):
            await answering
