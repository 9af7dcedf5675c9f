"""The audit log, acts that wait, notices to owners, and what limits a key

New tables, and columns of `api_keys` that may be empty: the previous version of the code goes on serving. Keys that had
no expiry get a year from now; those that the previous version still makes have none until `multitude doctor` tells.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "20261128_audit"
down_revision = "20261128_attempts"
branch_labels = None
depends_on = None

_CATEGORIES = "('act', 'look', 'destruction', 'request')"
_PENDING_STATES = "('waiting', 'done', 'cancelled', 'failed')"
_NOTICE_KINDS = "('audit_alert', 'pending_act')"
_APPEND_ONLY = """
    CREATE FUNCTION audit_entries_are_appended_to() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the audit log is only ever appended to'; END $$
"""
_GUARD = """
    CREATE TRIGGER appended_to BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entries
    EXECUTE FUNCTION audit_entries_are_appended_to()
"""
# Whoever appends holds the lock of the log: the last entry that is seen here is the last.
_CHAINED = """
    CREATE FUNCTION audit_entries_are_chained() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        last record;
    BEGIN
        SELECT number, digest INTO last FROM audit_entries ORDER BY number DESC LIMIT 1;
        IF NEW.number IS DISTINCT FROM coalesce(last.number, 0) + 1
            OR NEW.previous_digest IS DISTINCT FROM coalesce(last.digest, decode(repeat('00', 32), 'hex'))
        THEN
            RAISE EXCEPTION 'an entry of the audit log follows the last one';
        END IF;
        RETURN NEW;
    END $$
"""
_CHAIN = """
    CREATE TRIGGER chained BEFORE INSERT ON audit_entries
    FOR EACH ROW EXECUTE FUNCTION audit_entries_are_chained()
"""


def upgrade() -> None:
    _create_audit_entries()
    _create_pending_acts()
    _create_notices()
    # Last, and few rows: whoever notes the use of a key waits for this alone.
    op.add_column("api_keys", sa.Column("made_by", sa.Uuid(), nullable=True))
    op.add_column("api_keys", sa.Column("networks", postgresql.ARRAY(sa.Text()), nullable=True))
    op.add_column("api_keys", sa.Column("requests_per_minute", sa.Integer(), nullable=True))
    op.create_index(op.f("ix_api_keys__made_by"), "api_keys", ["made_by"])
    op.execute("UPDATE api_keys SET expires_at = now() + interval '365 days' WHERE expires_at IS NULL")


def _create_audit_entries() -> None:
    op.create_table(
        "audit_entries",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("key_id", sa.Uuid(), nullable=True),
        sa.Column("organization_id", sa.Uuid(), nullable=True),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("object_kind", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Text(), nullable=True),
        sa.Column("row_count", sa.BigInteger(), nullable=False),
        sa.Column("fields", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("pending_act_id", sa.Uuid(), nullable=True),
        sa.Column("previous_digest", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint(f"category IN {_CATEGORIES}", name=op.f("ck_audit_entries__category")),
        sa.CheckConstraint("number > 0", name=op.f("ck_audit_entries__number")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_entries")),
    )
    op.create_index(op.f("ix_audit_entries__at"), "audit_entries", ["at"])
    op.create_index("ix_audit_entries__key_id", "audit_entries", ["key_id", "number"])
    op.create_index("ix_audit_entries__verb", "audit_entries", ["verb", "number"])
    op.create_index("ix_audit_entries__object_kind", "audit_entries", ["object_kind", "object_id", "number"])
    for statement in (_APPEND_ONLY, _GUARD, _CHAINED, _CHAIN):
        op.execute(statement)


def _create_pending_acts() -> None:
    op.create_table(
        "pending_acts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("object_kind", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=True),
        sa.Column("content", postgresql.JSONB(), nullable=False),
        sa.Column("signer", sa.LargeBinary(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("roles", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("asked_by", sa.Uuid(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.Uuid(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.CheckConstraint(f"state IN {_PENDING_STATES}", name=op.f("ck_pending_acts__state")),
        sa.CheckConstraint(
            "signer IS NULL OR (state = 'waiting' AND octet_length(signer) = 16)", name=op.f("ck_pending_acts__signer")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pending_acts")),
    )
    op.create_index(
        "ix_pending_acts__due_at", "pending_acts", ["due_at"], postgresql_where=sa.text("state = 'waiting'")
    )
    op.create_index(
        "ix_pending_acts__signer", "pending_acts", ["signer"], postgresql_where=sa.text("signer IS NOT NULL")
    )


def _create_notices() -> None:
    op.create_table(
        "owner_notices",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("recipient", sa.SmallInteger(), nullable=False),
        sa.Column("content", postgresql.JSONB(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("mail_count", sa.SmallInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(f"kind IN {_NOTICE_KINDS}", name=op.f("ck_owner_notices__kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_owner_notices")),
    )
    op.create_index("uq_owner_notices__about", "owner_notices", ["about", "recipient"], unique=True)
    op.create_index(
        "ix_owner_notices__due_at", "owner_notices", ["due_at"], postgresql_where=sa.text("due_at IS NOT NULL")
    )


def downgrade() -> None:
    """Take it all away again; what was entered is lost. Keys keep the expiry they were given."""
    for table in ("owner_notices", "pending_acts", "audit_entries"):
        op.drop_table(table)
    op.execute("DROP FUNCTION audit_entries_are_appended_to()")
    op.execute("DROP FUNCTION audit_entries_are_chained()")
    op.drop_index(op.f("ix_api_keys__made_by"), "api_keys")
    for name in ("requests_per_minute", "networks", "made_by"):
        op.drop_column("api_keys", name)
