"""Metrics on a port of their own: who may read them is decided by who can reach it, and the API's port tells nobody."""

from prometheus_client import start_http_server

from app.kit import metrics
from app.kit.logs import log
from app.kit.problems import OperatorError


def serve_metrics(host: str, port: int, *, name: str, is_chosen: bool) -> None:
    """Answer `/metrics` there, in a thread, until the process ends; port 0: nowhere.

    Where another program listens: OperatorError if the operator has chosen this port, by the setting called `name`;
    else a warning, for two services on one machine share our default.
    """
    if not port:
        return
    try:
        start_http_server(port, host, metrics.registry())
    except OSError as error:
        reason = f"Cannot listen at {host}:{port}: {error.strerror}. Set another {name}."
        if is_chosen:
            raise OperatorError(reason) from None
        log.warning("metrics are shown nowhere", host=host, port=port, advice=f"set another {name}")
