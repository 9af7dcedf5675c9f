"""Any table with digests is declared in a line: whatever its key, with digests that may be missing, with a guard."""

import asyncpg

from app.commands.digest_rotation import rotate
from app.kit.crypto.digest_rotation import DigestedTable
from app.kit.database.ids import uuid7
from tests.support.settings import FINGERPRINT, RING, settings_for

WRAPPING = "Yq3bW8sKx0Zr5Nf7Lm2Tc9Hd4Vj6Pg1A"
_TABLES = """
    CREATE TABLE attempts (petition_id uuid, signer bytea, id uuid, sealed bytea, PRIMARY KEY (petition_id, signer, id)
    );
    CREATE TABLE acts (id bigint PRIMARY KEY, signer bytea, domain bytea);
    CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'never'; END $$;
    CREATE TRIGGER guard BEFORE UPDATE ON acts EXECUTE FUNCTION never();
"""


def identity(signer: bytes) -> bytes:
    return b"attempts.sealed" + signer


ATTEMPTS = DigestedTable(
    "attempts",
    {"petition_id": "uuid", "signer": "bytea", "id": "uuid"},
    ["signer"],
    sealed={"sealed": lambda _petition_id, signer, _id: identity(signer)},
)
ACTS = DigestedTable("acts", {"id": "bigint"}, ["signer"], ["domain"], guard="guard")


async def test_a_line_for_each_table_is_enough(own_url: str) -> None:
    amina, bilal = RING.digest("amina"), RING.digest("bilal")
    after = settings_for(own_url, digest_wrapping_keys=WRAPPING)
    connection = await asyncpg.connect(own_url)
    await connection.execute(_TABLES)
    await connection.execute("INSERT INTO digest_keys VALUES (1, $1)", FINGERPRINT)
    petition_id, ids = uuid7(), [uuid7() for _ in range(3)]
    attempts = [(petition_id, amina, id_, RING.seal(b"Amina", identity(amina))) for id_ in ids]
    attempts += [(petition_id, bilal, ids[0], b""), (uuid7(), bilal, ids[1], None)]
    await connection.executemany("INSERT INTO attempts VALUES ($1, $2, $3, $4)", attempts)
    acts = [(1, amina, RING.digests.short_digest("domain", 8)), (2, None, None), (3, bilal, b"")]
    await connection.executemany("INSERT INTO acts VALUES ($1, $2, $3)", acts)

    assert await rotate(after, tables=[ATTEMPTS, ACTS]) == {"rows": 8, "unreadable": 0}

    ring = after.key_ring
    kept = {ring.digest("amina"): b"Amina", ring.digest("bilal"): b""}
    rows = await connection.fetch("SELECT * FROM attempts")
    assert sorted(row["id"] for row in rows if row["signer"] == ring.digest("amina")) == ids
    for row in rows:
        opened = ring.open(row["sealed"], identity(row["signer"])) if row["sealed"] else b""
        assert opened == kept[row["signer"]]
    short = ring.digests.short_digest("domain", 8)
    expected = [(1, ring.digest("amina"), short), (2, None, None), (3, ring.digest("bilal"), b"")]
    assert [tuple(row) for row in await connection.fetch("SELECT * FROM acts ORDER BY id")] == expected
    try:
        await connection.execute("UPDATE acts SET signer = NULL")
        raise AssertionError("the guard is gone")
    except asyncpg.RaiseError:
        pass
    assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'digest_rotation%'") == 0
    await connection.close()
