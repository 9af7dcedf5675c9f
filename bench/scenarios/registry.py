"""Every scenario under the name `--only` takes, in the order in which they run."""

from bench.scenarios import Scenario, big, counting, importing, memory, pgbench, signing, size, starting

SCENARIOS: dict[str, Scenario] = {
    "nothing": signing.nothing,
    "textbook": signing.textbook,
    "pgbench": pgbench.pgbench,
    "processes": signing.processes,
    "spread": signing.spread,
    "latency": signing.latency,
    "count": counting.count,
    "big": big.big,
    "memory": memory.memory,
    "import": importing.importing,
    "size": size.size,
    "verify": size.verify,
    "up": starting.up,
}
