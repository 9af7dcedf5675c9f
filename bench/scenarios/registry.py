"""Every scenario under the name `--only` takes, in the order in which they run."""

from bench.scenarios import (
    Scenario,
    big,
    confirming,
    counting,
    importing,
    invalidating,
    mailing,
    memory,
    pgbench,
    resealing,
    signing,
    size,
    starting,
)

SCENARIOS: dict[str, Scenario] = {
    "nothing": signing.nothing,
    "textbook": signing.textbook,
    "pgbench": pgbench.pgbench,
    "processes": signing.processes,
    "spread": signing.spread,
    "latency": signing.latency,
    "mailed": signing.mailed,
    "confirm": confirming.confirm,
    "mails": mailing.mails,
    "count": counting.count,
    "big": big.big,
    "memory": memory.memory,
    "import": importing.importing,
    "reseal": resealing.resealing,
    "invalidate": invalidating.invalidating,
    "size": size.size,
    "verify": size.verify,
    "up": starting.up,
}
