"""What an operator can set about connections: how many, for how long, and how much they may send."""

from pydantic import Field

from app.kit.descriptors import room_for_connections
from app.kit.settings import KIBIBYTE, ServiceSettings


class WebSettings(ServiceSettings):
    """For the server of the API."""

    connection_limit: int = Field(8192, ge=1, description="connections one process keeps open")
    connections_per_client: int = Field(256, ge=1, description="connections one client address may have in a process")
    requests_per_client: int = Field(16, ge=1, description="requests of one client address a process answers at once")
    header_seconds: float = Field(10, gt=0, description="how long the head of a request may take to arrive")
    body_seconds: float = Field(10, gt=0, description="how long a request may take to arrive, its body included")
    keep_alive_seconds: float = Field(5, gt=0, description="how long a connection may wait for its next request")
    max_header_bytes: int = Field(32 * KIBIBYTE, ge=KIBIBYTE, description="the largest head of a request")

    @property
    def most_connections(self) -> int:
        """The connections one process keeps open, as far as its file descriptors reach."""
        return min(self.connection_limit, room_for_connections())
