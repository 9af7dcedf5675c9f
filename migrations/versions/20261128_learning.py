"""Nobody learns of another: the choice to count what is unproven, what may stand in clear, and published tallies

Three columns with defaults that rewrite nothing, and two tables of their own: the previous version of the code, which
knows none of them, can go on serving. What stands with `confirmation: none` counts as accepted.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "20261128_learning"
down_revision = "20261128_audit"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("petitions", sa.Column("accept_unproven", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("petitions", sa.Column("allowed_regions", postgresql.ARRAY(sa.Text()), nullable=True))
    op.add_column("petitions", sa.Column("allowed_sources", postgresql.ARRAY(sa.Text()), nullable=True))
    op.execute("UPDATE petitions SET accept_unproven = true WHERE confirmation = 'none'")
    op.create_table(
        "published_tallies",
        sa.Column("petition_id", sa.Uuid(), nullable=False),
        sa.Column("dimension", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("signature_count", sa.BigInteger(), nullable=False),
        sa.Column("published_count", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("petition_id", "dimension", "key", name=op.f("pk_published_tallies")),
    )
    op.create_table(
        "minute_tallies",
        sa.Column("petition_id", sa.Uuid(), nullable=False),
        sa.Column("dimension", sa.Text(), nullable=False),
        sa.Column("counts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("petition_id", "dimension", name=op.f("pk_minute_tallies")),
    )


def downgrade() -> None:
    op.drop_table("minute_tallies")
    op.drop_table("published_tallies")
    op.drop_column("petitions", "allowed_sources")
    op.drop_column("petitions", "allowed_regions")
    op.drop_column("petitions", "accept_unproven")
