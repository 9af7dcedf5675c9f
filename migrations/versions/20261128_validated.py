"""Attempts: the wider check of which mail is due is validated, while people go on signing

By itself and after the commit that brought it: validating reads all of the table, and locks nobody out only while no
stronger lock is held. It can be done again.
"""

from alembic import op

revision = "20261128_validated"
down_revision = "20261128_signin"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # On a large table this takes longer than a migration may otherwise take.
        op.execute("SET statement_timeout = 0")
        op.execute("ALTER TABLE signatures VALIDATE CONSTRAINT ck_signatures__due_mail")
        op.execute("SET statement_timeout = '10min'")


def downgrade() -> None:
    """What was checked stays so, until the check itself is replaced."""
