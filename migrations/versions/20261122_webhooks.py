"""Partners: partnerships, webhooks in and out, and what rooms announce to those above

It must run while the previous version of the code is still serving: the columns that are added to `signatures` have no
value, and come last, so that this table is locked for a moment only. Nothing here copies rows: consents of before are
numbered by the worker. What takes long on a large table follows in a revision of its own.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "20261122_webhooks"
down_revision = "20261122_people_indexes"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_outbox()
    _create_partnerships()
    _create_inbound()
    _create_outbound()
    _create_feed()
    # Whoever signs waits from here to the commit.
    _add_to_signatures()


def _add_to_signatures() -> None:
    op.add_column("signatures", sa.Column("withdrawn_id", sa.Uuid(), nullable=True))
    for name in ("brought_by", "brought_ids"):
        op.add_column("signatures", sa.Column(name, postgresql.ARRAY(sa.Uuid()), nullable=True))


def _create_outbox() -> None:
    op.create_table(
        "outbox_messages",
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=True),
        sa.Column("content", postgresql.JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_outbox_messages")),
    )


def _create_partnerships() -> None:
    op.create_table(
        "partnerships",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("campaign_id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("terms", sa.Text(), nullable=False),
        sa.Column("petition_ids", postgresql.ARRAY(sa.Uuid()), nullable=True),
        sa.Column("consents", postgresql.JSONB(), nullable=False),
        sa.Column("receives_signers", sa.Boolean(), nullable=False),
        sa.Column("default_country", sa.Text(), nullable=True),
        sa.Column("invited_by", sa.Uuid(), nullable=False),
        sa.Column("answered_by", sa.Uuid(), nullable=True),
        sa.Column("ended_by", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('invited', 'active', 'declined', 'ended')", name=op.f("ck_partnerships__state")),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name=op.f("fk_partnerships__campaign_id__campaigns")
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_partnerships__organization_id__organizations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_partnerships")),
    )
    op.create_index(op.f("ix_partnerships__campaign_id"), "partnerships", ["campaign_id"])
    op.create_index(op.f("ix_partnerships__organization_id"), "partnerships", ["organization_id"])
    op.create_index(
        "uq_partnerships__active",
        "partnerships",
        ["organization_id", "campaign_id"],
        unique=True,
        postgresql_where=sa.text("state = 'active'"),
    )
    op.create_index(
        "uq_partnerships__invited",
        "partnerships",
        ["organization_id", "campaign_id"],
        unique=True,
        postgresql_where=sa.text("state = 'invited'"),
    )


def _create_inbound() -> None:
    op.create_table(
        "webhook_secrets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("scheme", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "scheme IN ('standard', 'controlshift', 'action_network')", name=op.f("ck_webhook_secrets__scheme")
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_webhook_secrets__organization_id__organizations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_secrets")),
    )
    op.create_index(op.f("ix_webhook_secrets__organization_id"), "webhook_secrets", ["organization_id"])
    op.create_table(
        "received_webhooks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("webhook_digest", sa.LargeBinary(), nullable=False),
        sa.Column("body_digest", sa.LargeBinary(), nullable=False),
        sa.Column("runner", sa.BigInteger(), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_received_webhooks__organization_id__organizations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_received_webhooks")),
        sa.UniqueConstraint(
            "organization_id", "webhook_digest", name=op.f("uq_received_webhooks__organization_id_webhook_digest")
        ),
    )
    op.create_index(op.f("ix_received_webhooks__received_at"), "received_webhooks", ["received_at"])


def _create_outbound() -> None:
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("types", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("state_reason", sa.Text(), nullable=True),
        sa.Column("failure_count", sa.Integer(), nullable=False),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ordered_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("mail_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("mail_count", sa.Integer(), nullable=False),
        sa.Column("activated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('active', 'paused', 'disabled')", name=op.f("ck_webhook_endpoints__state")),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_webhook_endpoints__organization_id__organizations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
    )
    op.create_index(op.f("ix_webhook_endpoints__organization_id"), "webhook_endpoints", ["organization_id"])
    op.create_table(
        "webhook_messages",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("ordered", sa.Boolean(), nullable=False),
        sa.Column("content", postgresql.JSONB(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retried_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('due', 'delivered', 'dead', 'void')", name=op.f("ck_webhook_messages__state")),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["webhook_endpoints.id"],
            name=op.f("fk_webhook_messages__endpoint_id__webhook_endpoints"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_messages")),
    )
    op.create_index(op.f("ix_webhook_messages__created_at"), "webhook_messages", ["created_at"])
    for name, those in (("ordered", "ordered"), ("unordered", "NOT ordered")):
        op.create_index(
            f"ix_webhook_messages__{name}",
            "webhook_messages",
            ["endpoint_id", "due_at", "id"],
            postgresql_where=sa.text(f"state = 'due' AND {those}"),
        )
    op.create_index("ix_webhook_messages__endpoint_id", "webhook_messages", ["endpoint_id", "id"])
    op.create_table(
        "delivery_attempts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("attempted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message_id"],
            ["webhook_messages.id"],
            name=op.f("fk_delivery_attempts__message_id__webhook_messages"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery_attempts")),
    )
    op.create_index(op.f("ix_delivery_attempts__message_id"), "delivery_attempts", ["message_id"])


def _create_feed() -> None:
    op.create_table(
        "signer_feed_entries",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("consent_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["consent_id"],
            ["consents.id"],
            name=op.f("fk_signer_feed_entries__consent_id__consents"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_signer_feed_entries")),
        sa.UniqueConstraint("consent_id", name=op.f("uq_signer_feed_entries__consent_id")),
    )
    op.create_index("ix_signer_feed_entries__organization_id", "signer_feed_entries", ["organization_id", "number"])


def downgrade() -> None:
    """Take it all away again: partnerships, secrets, endpoints and what waits to be delivered are lost."""
    for table in (
        "signer_feed_entries",
        "delivery_attempts",
        "webhook_messages",
        "webhook_endpoints",
        "received_webhooks",
        "webhook_secrets",
        "partnerships",
        "outbox_messages",
    ):
        op.drop_table(table)
    for name in ("brought_ids", "brought_by", "withdrawn_id"):
        op.drop_column("signatures", name)
