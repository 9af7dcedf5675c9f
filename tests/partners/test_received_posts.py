"""What partners post stands in the audit log once an hour, not once a post."""

from uuid import UUID

from app.kit.database.ids import uuid7
from app.kit.database.session import Database
from app.partners.inbound.audit import ReceivedPosts
from tests.support.databases import run
from tests.support.partners import insert_partner

_POST = """
    INSERT INTO received_webhooks (id, organization_id, webhook_digest, body_digest, received_at)
    VALUES (:id, :organization_id, :digest, '', :received_at)
"""


async def posted(database: Database, organization_id: UUID, count: int, ago: str) -> None:
    ((at,),) = await run(database, f"SELECT now() - interval '{ago}'")
    for _ in range(count):
        id_ = uuid7()
        await run(database, _POST, id=id_, organization_id=organization_id, digest=id_.bytes, received_at=at)


async def entered(database: Database) -> list[tuple[str, int]]:
    async with database.transaction() as session:
        await ReceivedPosts()(session)
    rows = await run(database, "SELECT object_id, row_count FROM audit_entries ORDER BY number")
    return [tuple(row) for row in rows]


async def test_posts_are_counted_by_the_hour_and_each_once(database: Database) -> None:
    sisters, _ = await insert_partner(database, "sisters", "Sisters")
    brothers, _ = await insert_partner(database, "brothers", "Brothers")
    await posted(database, sisters, 3, "2 hours")
    await posted(database, brothers, 2, "5 hours")
    first = sorted([(str(sisters), 3), (str(brothers), 2)], key=lambda one: UUID(one[0]))
    assert await entered(database) == first
    assert await entered(database) == first
    await posted(database, sisters, 4, "0 hours")
    assert await entered(database) == first
    ((role, key, verb),) = await run(database, "SELECT DISTINCT role, key_id, verb FROM audit_entries")
    assert (role, key, verb) == ("partner", None, "signatures.bring")
