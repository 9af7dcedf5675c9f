"""Metrics (Prometheus). With several processes the values are shared through files."""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import REGISTRY

# prometheus_client reads it when it is imported: `serve` sets it before it starts processes.
MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)

requests = Counter("multitude_requests", "Requests answered", ["method", "route", "status"])
request_seconds = Histogram("multitude_request_seconds", "Time to answer", ["route"], buckets=_SECONDS)
signatures_accepted = Counter("multitude_signatures_accepted", "Signatures committed and counted")
batch_size = Histogram(
    "multitude_batch_size", "Signatures per commit", buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)
)
commit_seconds = Histogram("multitude_commit_seconds", "Time of one batch's transaction", buckets=_SECONDS)
commit_failures = Counter("multitude_commit_failures", "Batch transactions that had to be tried again")
queue_depth = Gauge("multitude_queue_depth", "Signatures waiting for a batch", multiprocess_mode="livesum")
queue_refusals = Counter("multitude_queue_refusals", "Signatures answered 503 because the queue was full")
mails = Counter("multitude_mails", "Mails by how their sending ended", ["end"])
mail_failures = Counter("multitude_mail_failures", "Mails that were not sent when tried, by why", ["source", "reason"])
sweep_failures = Counter("multitude_sweep_failures", "Rounds of a sweep that failed", ["sweep"])
seals = Counter("multitude_seals", "Values sealed, by what kind of key", ["purpose"])
alerts = Counter(
    "multitude_alerts", "Notices to owners: much seen or destroyed by a key, or an act that waits", ["kind"]
)
deliveries = Counter("multitude_deliveries", "Webhooks sent, by how that ended", ["end"])


def registry() -> CollectorRegistry:
    """The metrics of this process; or those of all processes of this service, read from their files at each look."""
    if MULTIPROCESS_DIR not in os.environ:
        return REGISTRY
    shared = CollectorRegistry()
    MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
    return shared


def exposition() -> bytes:
    """All metrics of all processes of this service, in the text format."""
    return generate_latest(registry())
