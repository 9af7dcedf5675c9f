"""How often each key has sealed: so that it is renewed in time

A table of its own: nothing that is there is locked or rewritten, and the previous version of the code, which does not
know it, can go on serving.
"""

import sqlalchemy as sa
from alembic import op

revision = "20261128_secrets"
down_revision = "20261128_learning"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "key_seals",
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("key_id", sa.LargeBinary(), nullable=False),
        sa.Column("seal_count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("purpose", "key_id", name=op.f("pk_key_seals")),
    )


def downgrade() -> None:
    op.drop_table("key_seals")
