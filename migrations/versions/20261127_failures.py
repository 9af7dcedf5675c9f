"""Failures that leave a trace: the last failure of each mail that is not sent, and of each sweep

Two tables of their own: nothing that is there is locked or rewritten, and the previous version of the code, which
knows neither, can go on serving.
"""

import sqlalchemy as sa
from alembic import op

revision = "20261127_failures"
down_revision = "20261122_webhooks_indexes"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "mail_failures",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("mail_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column("first_failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('waiting', 'failed')", name=op.f("ck_mail_failures__state")),
        sa.PrimaryKeyConstraint("source", "mail_id", name=op.f("pk_mail_failures")),
    )
    op.create_index("ix_mail_failures__group", "mail_failures", ["source", "kind", "state", "reason"])
    op.create_index("ix_mail_failures__state_last_failed_at", "mail_failures", ["state", "last_failed_at"])
    op.create_table(
        "sweep_failures",
        sa.Column("sweep", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("first_failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sweep", name=op.f("pk_sweep_failures")),
    )


def downgrade() -> None:
    op.drop_table("sweep_failures")
    op.drop_table("mail_failures")
