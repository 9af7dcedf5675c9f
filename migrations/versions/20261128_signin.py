"""Sign-in links: when a link was mailed, whether a known device asked for it, and what a session was asked with

The previous version of the code can go on serving: it reads none of these columns, and every new one may be NULL. The
index is made on a table that holds a month of sign-ins.
"""

import sqlalchemy as sa
from alembic import op

revision = "20261128_signin"
down_revision = "20261128_secrets"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sign_ins", sa.Column("mailed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("sign_ins", sa.Column("known_device", sa.Boolean(), nullable=True))
    op.add_column("person_sessions", sa.Column("sealed", sa.LargeBinary(), nullable=True))
    op.create_index(
        "ix_sign_ins__mailed_at",
        "sign_ins",
        ["signer", "mailed_at"],
        postgresql_where=sa.text("mailed_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_sign_ins__mailed_at", table_name="sign_ins")
    op.drop_column("person_sessions", "sealed")
    op.drop_column("sign_ins", "known_device")
    op.drop_column("sign_ins", "mailed_at")
