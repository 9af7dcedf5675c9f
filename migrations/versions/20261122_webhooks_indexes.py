"""Partners: the index by which withdrawals are found that nobody was told of yet, made while people go on signing

Nobody who signs waits for it. When a long transaction of somebody else made it give up, it is run again.
"""

import sqlalchemy as sa
from alembic import op

revision = "20261122_webhooks_indexes"
down_revision = "20261122_webhooks"
branch_labels = None
depends_on = None

_INDEX = "ix_signatures__withdrawn_id"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # On a large table this takes longer than a migration may otherwise take.
        op.execute("SET statement_timeout = 0")
        # One that an interrupted run has left behind is not valid: it is built anew.
        op.drop_index(_INDEX, "signatures", if_exists=True, postgresql_concurrently=True)
        op.create_index(
            _INDEX,
            "signatures",
            ["withdrawn_id"],
            postgresql_where=sa.text("withdrawn_id IS NOT NULL"),
            postgresql_concurrently=True,
        )
        op.execute("SET statement_timeout = '10min'")


def downgrade() -> None:
    op.drop_index(_INDEX, table_name="signatures")
