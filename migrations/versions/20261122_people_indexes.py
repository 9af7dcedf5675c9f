"""People: the indexes and checks of signatures, made while people go on signing

Nobody who signs waits for it. Each step is committed by itself and can be done again: when a long transaction of
somebody else made it give up, it is run again.
"""

import sqlalchemy as sa
from alembic import op

revision = "20261122_people_indexes"
down_revision = "20261122_people"
branch_labels = None
depends_on = None

_INDEXES = ("ix_signatures__mail_due_at", "ix_signatures__consents_due", "ix_signatures__signed_at")


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # On a large table each of these takes longer than a migration may otherwise take.
        op.execute("SET statement_timeout = 0")
        for name in ("state_before", "due_mail"):
            op.execute(f"ALTER TABLE signatures VALIDATE CONSTRAINT ck_signatures__{name}")
        for name in _INDEXES:
            # One that an interrupted run has left behind is not valid: it is built anew.
            op.drop_index(name, "signatures", if_exists=True, postgresql_concurrently=True)
        op.create_index(
            "ix_signatures__mail_due_at",
            "signatures",
            ["mail_due_at"],
            postgresql_where=sa.text("mail_due_at IS NOT NULL"),
            postgresql_concurrently=True,
        )
        op.create_index(
            "ix_signatures__consents_due",
            "signatures",
            ["id"],
            postgresql_where=sa.text("consents_due AND state = 'confirmed'"),
            postgresql_concurrently=True,
        )
        op.create_index(
            "ix_signatures__signed_at",
            "signatures",
            ["signed_at"],
            postgresql_using="brin",
            postgresql_with={"pages_per_range": 64},
            postgresql_concurrently=True,
        )
        op.execute("SET statement_timeout = '10min'")


def downgrade() -> None:
    for name in _INDEXES:
        op.drop_index(name, table_name="signatures")
