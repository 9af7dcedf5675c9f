"""The server: uvicorn as this service wants it, in one process or several."""

import os
import shutil
import signal
import socket
import tempfile
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from app.kit import logs
from app.kit.descriptors import raise_limit
from app.kit.metrics import MULTIPROCESS_DIR
from app.kit.metrics_server import serve_metrics
from app.kit.problems import OperatorError
from app.kit.secret_files import SUFFIX
from app.serving.connections import Limits
from app.serving.protocol import ProtocolFactory
from app.settings import Settings

# Seconds. Longer than a batch is retried, so that whoever waits for a commit is still answered.
GRACE = 30
# Connections that the kernel queues while the event loop is busy; a crowd arrives all at once.
BACKLOG = 4096
# Folder in which several processes share their metrics; the parent's process id follows.
_METRICS = "multitude-metrics-"


def options(settings: Settings, host: str, port: int) -> dict[str, Any]:
    """uvicorn's options, the same for every number of processes."""
    limits = Limits(
        connections=settings.most_connections,
        connections_per_client=settings.connections_per_client,
        requests_per_client=settings.requests_per_client,
        header_seconds=settings.header_seconds,
        body_seconds=settings.body_seconds,
        keep_alive_seconds=settings.keep_alive_seconds,
        header_bytes=settings.max_header_bytes,
    )
    return {
        "host": host,
        "port": port,
        "loop": "uvloop",
        "http": ProtocolFactory(limits, [*settings.trusted_proxies, *settings.uncounted_networks]),
        "ws": "none",
        "lifespan": "on",
        "backlog": BACKLOG,
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "proxy_headers": False,
        "timeout_graceful_shutdown": GRACE,
        # Our own log lines say when it starts and stops.
        "log_level": "warning",
    }


def export_settings(settings: Settings) -> None:
    """Hand the settings to processes started from here, as environment; a secret that a file holds stays there."""
    given = settings.as_environment()
    os.environ.update({name: value for name, value in given.items() if not os.environ.get(f"{name}{SUFFIX}")})


def serve(settings: Settings, host: str, port: int, workers: int) -> None:
    """Serve until SIGTERM or SIGINT; what was taken is committed and answered first."""
    export_settings(settings)
    logs.configure(settings.log_level, settings.log_format)
    check_address(host, port)
    log_start(settings, host, port, workers)
    if workers == 1:
        show_metrics(settings)
        # After an orderly end uvicorn raises the signal again: with the default handler that would kill this process.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        uvicorn.run("app.main:create_app", factory=True, **options(settings, host, port))
        return
    _remove_stale_metrics()
    with tempfile.TemporaryDirectory(prefix=f"{_METRICS}{os.getpid()}-") as folder:
        os.environ[MULTIPROCESS_DIR] = folder
        show_metrics(settings)
        config = uvicorn.Config("app.main:create_app", factory=True, workers=workers, **options(settings, host, port))
        Multiprocess(config, sockets=[_SocketPerProcess(host, port)]).run()  # type: ignore[list-item]  # becomes one


def log_start(settings: Settings, host: str, port: int, workers: int = 1) -> None:
    """Raise the limit of file descriptors for all that is started from here, and log it with where we serve."""
    descriptors = raise_limit()
    logs.log.info(
        "serving",
        host=host,
        port=port,
        workers=workers,
        descriptors=descriptors,
        connections=settings.most_connections,
        streams=settings.most_streams,
    )
    if settings.most_connections < settings.connection_limit:
        logs.log.warning("few file descriptors: raise the hard limit (ulimit -Hn)", descriptors=descriptors)


def show_metrics(settings: Settings) -> None:
    """Show the API's metrics on their own port; OperatorError when the operator has chosen one that is taken."""
    serve_metrics(
        settings.metrics_host,
        settings.metrics_port,
        name="MULTITUDE_METRICS_PORT",
        is_chosen="metrics_port" in settings.model_fields_set,
    )


class _SocketPerProcess:
    """Pickled to a child process, it becomes a socket of that process's own (SO_REUSEPORT).

    With one shared socket the process that wakes first takes nearly all of a crowd's connections; between sockets of
    their own the kernel shares them out evenly.
    """

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return _bound_socket, self._address


def _bound_socket(host: str, port: int, *, shared: bool = True) -> socket.socket:
    """A socket bound to the address; OperatorError when another program, or another service, has it."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        raise AddressTakenError(f"Cannot listen at {host}:{port}: {error.strerror}.") from None
    return bound


def check_address(host: str, port: int) -> None:
    """AddressTakenError when nobody can listen there, or somebody does already."""
    _bound_socket(host, port, shared=False).close()


class AddressTakenError(OperatorError):
    """Something else listens there, or the address is not this machine's."""


def _remove_stale_metrics() -> None:
    """Remove the metrics folders of services that were killed before they could do it themselves."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_METRICS}*"):
        process = folder.name.removeprefix(_METRICS).partition("-")[0]
        if process.isdigit() and not _is_running(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
