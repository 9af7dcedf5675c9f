"""Attempts: what somebody typed stands beside what others typed, until a person has proven one of them

The previous version of the code goes on serving: it finds `signatures` and its key as they were. Columns are added
without a value and a check is replaced by a wider one that need not be validated, so that the large table is locked for
a moment only.
"""

import sqlalchemy as sa
from alembic import op

revision = "20261128_attempts"
down_revision = "20261127_failures"
branch_labels = None
depends_on = None

_MAILS = "('confirm_signature', 'already_signed', 'confirm_consents', 'confirm_withdrawal')"
_FORMER_MAILS = "('confirm_signature', 'already_signed')"
_STATES = "('pending', 'confirmed', 'withdrawn', 'invalidated')"


def upgrade() -> None:
    _create_attempts()
    _create_contacts()
    # Whoever signs waits from here to the commit.
    op.add_column("signatures", sa.Column("imported", sa.Boolean(), nullable=True))
    op.add_column("signatures", sa.Column("accepted_consents", sa.Integer(), nullable=True))
    op.add_column("signatures", sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("signatures", sa.Column("taken_back", sa.Boolean(), nullable=True))
    _allow_mails(_MAILS)
    # In this order, in which the sweep of the previous version locks them.
    op.add_column("consents", sa.Column("attempt_id", sa.Uuid(), nullable=True))


def _allow_mails(kinds: str) -> None:
    op.execute("ALTER TABLE signatures DROP CONSTRAINT ck_signatures__due_mail")
    op.execute(f"ALTER TABLE signatures ADD CONSTRAINT ck_signatures__due_mail CHECK (due_mail IN {kinds}) NOT VALID")


def _create_attempts() -> None:
    op.create_table(
        "signature_attempts",
        sa.Column("petition_id", sa.Uuid(), nullable=False),
        sa.Column("signer", sa.LargeBinary(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("signed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("country", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("group_id", sa.Uuid(), nullable=True),
        sa.Column("event_id", sa.Uuid(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("address_digest", sa.LargeBinary(), nullable=True),
        sa.Column("domain_digest", sa.LargeBinary(), nullable=True),
        sa.Column("disposable", sa.Boolean(), nullable=True),
        sa.Column("partner_id", sa.Uuid(), nullable=True),
        sa.Column("imported", sa.Boolean(), nullable=True),
        sa.Column("held", sa.Boolean(), nullable=True),
        sa.Column("mail_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("mail_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_mail", sa.Text(), nullable=True),
        sa.Column("mail_count", sa.SmallInteger(), nullable=True),
        sa.Column("consents_due", sa.Boolean(), nullable=True),
        sa.Column("accepted_consents", sa.Integer(), nullable=True),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("proven", sa.Boolean(), nullable=True),
        sa.Column("invalidation_id", sa.Uuid(), nullable=True),
        sa.Column("state_before", sa.Text(), nullable=True),
        sa.Column("withdrawn_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint(f"state IN {_STATES}", name=op.f("ck_signature_attempts__state")),
        sa.CheckConstraint("octet_length(signer) = 16", name=op.f("ck_signature_attempts__signer")),
        sa.CheckConstraint(
            "(state = 'invalidated') = (state_before IS NOT NULL)", name=op.f("ck_signature_attempts__state_before")
        ),
        sa.CheckConstraint(f"due_mail IN {_MAILS}", name=op.f("ck_signature_attempts__due_mail")),
        sa.PrimaryKeyConstraint("petition_id", "signer", "id", name=op.f("pk_signature_attempts")),
    )
    for column, key, condition in (
        ("mail_due_at", "mail_due_at", "mail_due_at IS NOT NULL"),
        ("consents_due", "id", "consents_due AND state = 'confirmed'"),
        ("withdrawn_id", "withdrawn_id", "withdrawn_id IS NOT NULL"),
    ):
        op.create_index(
            f"ix_signature_attempts__{column}", "signature_attempts", [key], postgresql_where=sa.text(condition)
        )
    op.create_index(
        "ix_signature_attempts__signed_at",
        "signature_attempts",
        ["signed_at"],
        postgresql_using="brin",
        postgresql_with={"pages_per_range": 64},
    )


def _create_contacts() -> None:
    op.create_table(
        "contacts",
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("signer", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("attempt_id", sa.Uuid(), nullable=True),
        sa.Column("proven", sa.Boolean(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("octet_length(signer) = 16", name=op.f("ck_contacts__signer")),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_contacts__organization_id__organizations")
        ),
        sa.PrimaryKeyConstraint("organization_id", "signer", name=op.f("pk_contacts")),
    )
    op.create_index("ix_contacts__signer", "contacts", ["signer"])


def downgrade() -> None:
    """What the previous version does not know is lost: attempts that wait, and which mails they wait for."""
    op.execute(
        "UPDATE signatures SET due_mail = NULL, mail_due_at = NULL, mail_since = NULL"
        " WHERE due_mail IN ('confirm_consents', 'confirm_withdrawal')"
    )
    _allow_mails(_FORMER_MAILS)
    for column in ("taken_back", "accepted_at", "accepted_consents", "imported"):
        op.drop_column("signatures", column)
    op.drop_column("consents", "attempt_id")
    op.drop_table("contacts")
    op.drop_table("signature_attempts")
