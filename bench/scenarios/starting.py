"""How long `multitude up` takes to answer."""

from collections.abc import Iterator
from statistics import median

from bench.rows import Row, at_most
from bench.scenarios import Bench
from tests.support.services import Server, free_port, multitude


def up(bench: Bench) -> Iterator[Row]:
    """A first start in an empty folder, then three on the same data; each ended in good order."""
    folder = bench.folder / "up"
    port = free_port()
    arguments = multitude("up", "--port", str(port), "--data-dir", str(folder))
    server = Server(arguments, port=port, ready="/healthz", settings={})
    seconds = []
    for number in range(4):
        bench.say(f"multitude up, start {number + 1}")
        try:
            seconds.append(server.start())
            server.end(60)
        finally:
            server.kill()
    yield Row("multitude up, first start to first answer", seconds[0], "s")
    note = ", ".join(f"{s:.2f}" for s in seconds[1:])
    yield Row("multitude up, second start to first answer", median(seconds[1:]), "s", at_most(3), note)
