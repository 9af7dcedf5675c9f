"""Our service, migrated and with petitions open, ready to be signed.

It is prepared once, through its own command line and over HTTP as staff would; then the database is copied.
"""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.servers import ours, running
from tests.support.postgres import Cluster, SqlDatabase
from tests.support.services import Server, command

PETITIONS = 1000
# The one petition whose signatures are confirmed by e-mail.
MAILED = "mailed"
_TEMPLATE = "multitude_template"
# The same petition under other names: everything about it but its id and slug.
_COPY = """
    INSERT INTO petitions SELECT (jsonb_populate_record(
        p, jsonb_build_object('id', gen_random_uuid(), 'slug', 'p' || n)
    )).* FROM petitions p, generate_series(1, $N - 1) AS n WHERE p.slug = 'p0'
"""


@dataclass(frozen=True, slots=True)
class Service:
    """A running `multitude serve` and what belongs to it."""

    server: Server
    database: SqlDatabase
    key: str

    @property
    def url(self) -> str:
        return self.server.url


class Services:
    """Makes services on one cluster."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self._key = ""
        self.secret = secrets.token_hex(32)

    def close(self) -> None:
        """Drop what was prepared."""
        self._stack.close()

    @contextlib.contextmanager
    def database(self, name: str) -> Iterator[SqlDatabase]:
        """A database with an owner's key, and open petitions `p0` to `p999` and `mailed`, not yet signed."""
        if not self._key:
            self._prepare()
        with self._cluster.fresh(name, _TEMPLATE) as database:
            yield database

    @contextlib.contextmanager
    def running(self, name: str, workers: int = 1) -> Iterator[Service]:
        """Such a database, served."""
        with self.database(name) as database, running(self.server(database, workers)) as server:
            yield Service(server, database, self._key)

    def server(self, database: SqlDatabase, workers: int = 1) -> Server:
        """`multitude serve` on this database, not yet started."""
        return ours(self._folder, workers=workers, **self.settings(database))

    def settings(self, database: SqlDatabase) -> dict[str, str]:
        """The environment by which a command of ours finds this database and its keys."""
        return {
            "DATABASE_URL": database.url,
            "MULTITUDE_SECRET_KEYS": self.secret,
            "MULTITUDE_LOG_LEVEL": "WARNING",
        }

    def call(self, database: SqlDatabase, *arguments: str) -> str:
        """A command of ours to its end; what it printed. RuntimeError when it failed."""
        done = command(*arguments, patience=600, **self.settings(database))
        if done.returncode:
            raise RuntimeError(f"multitude {' '.join(arguments)} failed:\n{done.stderr}{done.stdout}")
        return done.stdout.strip()

    def _prepare(self) -> None:
        database = self._stack.enter_context(self._cluster.fresh(_TEMPLATE))
        self.call(database, "migrate")
        key = self.call(database, "keys", "create", "--organization", "movement", "--role", "owner")
        with running(self.server(database)) as server:
            open_petition(server.url, key, "p0")
            open_petition(server.url, key, MAILED, confirmation="email")
        database.run(_COPY.replace("$N", str(PETITIONS)))
        self._key = key


def _chosen(confirmation: str) -> dict[str, object]:
    return {"confirmation": confirmation, "accept_unproven": confirmation == "none"}


def open_petition(url: str, key: str, slug: str, confirmation: str = "none") -> None:
    """A campaign and a petition under it, published: as staff would, over HTTP."""
    staff = {"Authorization": f"Bearer {key}"}
    petition = {"slug": slug, "title": "End the ban", "ask": "Repeal the law.", "signature_goal": 10_000_000}
    # All of the load comes from one address.
    petition["address_limit"] = "none"
    campaign = {
        "slug": f"{slug}-campaign",
        "title": "End the ban",
        "goal": "Nobody is punished for loving.",
    }
    with httpx.Client(base_url=url, headers=staff, timeout=30, trust_env=False) as client:
        for path, body in (
            ("/v1/campaigns", campaign),
            (f"/v1/campaigns/{campaign['slug']}/petitions", petition | _chosen(confirmation)),
            (f"/v1/petitions/{slug}/publish", None),
        ):
            answer = client.post(path, json=body)
            if answer.is_error:
                raise RuntimeError(f"POST {path} answered {answer.status_code}: {answer.text}")
