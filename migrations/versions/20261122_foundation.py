"""The foundation

It must run while the previous version of the code is still serving: add first, remove one version later.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app.kit.clock import now
from app.kit.database.ids import uuid7

revision = "20261122_foundation"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "campaigns",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("story", sa.Text(), nullable=True),
        sa.Column("goal_statement", sa.Text(), nullable=False),
        sa.Column("metric_name", sa.Text(), nullable=True),
        sa.Column("metric_start", sa.Double(), nullable=True),
        sa.Column("metric_target", sa.Double(), nullable=True),
        sa.Column("metric_current", sa.Double(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("outcome_on", sa.Date(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state IN ('draft', 'active', 'paused', 'won', 'lost', 'archived')",
            name=op.f("ck_campaigns__state"),
        ),
        sa.CheckConstraint(
            "num_nulls(metric_name, metric_start, metric_target, metric_current) IN (0, 4)",
            name=op.f("ck_campaigns__metric_whole"),
        ),
        sa.CheckConstraint(
            "state NOT IN ('won', 'lost') OR outcome IS NOT NULL", name=op.f("ck_campaigns__outcome_told")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaigns")),
        sa.UniqueConstraint("slug", name=op.f("uq_campaigns__slug")),
    )
    op.create_table(
        "digest_keys",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_digest_keys__one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_digest_keys")),
    )
    organizations = op.create_table(
        "organizations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('movement', 'partner')", name=op.f("ck_organizations__kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organizations")),
        sa.UniqueConstraint("slug", name=op.f("uq_organizations__slug")),
    )
    op.create_table(
        "signature_tallies",
        sa.Column("petition_id", sa.Uuid(), nullable=False),
        sa.Column("dimension", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("lane", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("signature_count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("petition_id", "dimension", "key", "lane", name=op.f("pk_signature_tallies")),
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "signatures",
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
        sa.CheckConstraint(
            "state IN ('pending', 'confirmed', 'withdrawn', 'invalidated')", name=op.f("ck_signatures__state")
        ),
        sa.CheckConstraint("octet_length(signer) = 16", name=op.f("ck_signatures__signer")),
        sa.PrimaryKeyConstraint("petition_id", "signer", name=op.f("pk_signatures")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "role IN ('owner', 'campaigner', 'analyst', 'data_officer', 'partner')",
            name=op.f("ck_api_keys__role"),
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organizations.id"],
            name=op.f("fk_api_keys__organization_id__organizations"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_keys__digest")),
    )
    op.create_index(op.f("ix_api_keys__organization_id"), "api_keys", ["organization_id"], unique=False)
    op.create_table(
        "campaign_targets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("campaign_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=True),
        sa.Column("organization", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name=op.f("fk_campaign_targets__campaign_id__campaigns")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaign_targets")),
    )
    op.create_index(op.f("ix_campaign_targets__campaign_id"), "campaign_targets", ["campaign_id"], unique=False)
    op.create_table(
        "campaign_updates",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("campaign_id", sa.Uuid(), nullable=False),
        sa.Column("published_on", sa.Date(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name=op.f("fk_campaign_updates__campaign_id__campaigns")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaign_updates")),
    )
    op.create_index(op.f("ix_campaign_updates__campaign_id"), "campaign_updates", ["campaign_id"], unique=False)
    op.create_table(
        "petitions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("campaign_id", sa.Uuid(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("moderation", sa.Text(), nullable=False),
        sa.Column("moderation_reason", sa.Text(), nullable=True),
        sa.Column("locale", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("ask", sa.Text(), nullable=False),
        sa.Column("background", sa.Text(), nullable=True),
        sa.Column("target", sa.Text(), nullable=True),
        sa.Column("signature_goal", sa.BigInteger(), nullable=False),
        sa.Column("next_goal_automatic", sa.Boolean(), nullable=False),
        sa.Column("confirmation", sa.Text(), nullable=False),
        sa.Column("allowed_countries", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("opens_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closes_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("confirmation IN ('none', 'email')", name=op.f("ck_petitions__confirmation")),
        sa.CheckConstraint(
            "moderation IN ('pending', 'approved', 'rejected', 'removed')",
            name=op.f("ck_petitions__moderation"),
        ),
        sa.CheckConstraint("state IN ('draft', 'open', 'closed', 'archived')", name=op.f("ck_petitions__state")),
        sa.CheckConstraint("closes_at > opens_at", name=op.f("ck_petitions__closes_after_opening")),
        sa.CheckConstraint("signature_goal > 0", name=op.f("ck_petitions__signature_goal")),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_petitions__campaign_id__campaigns")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_petitions")),
        sa.UniqueConstraint("slug", name=op.f("uq_petitions__slug")),
    )
    op.create_index(op.f("ix_petitions__campaign_id"), "petitions", ["campaign_id"], unique=False)
    op.create_table(
        "petition_milestones",
        sa.Column("petition_id", sa.Uuid(), nullable=False),
        sa.Column("threshold_count", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("reached_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reached_signature_count", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "(reached_at IS NULL) = (reached_signature_count IS NULL)",
            name=op.f("ck_petition_milestones__reached"),
        ),
        sa.CheckConstraint("threshold_count > 0", name=op.f("ck_petition_milestones__threshold_count")),
        sa.ForeignKeyConstraint(
            ["petition_id"], ["petitions.id"], name=op.f("fk_petition_milestones__petition_id__petitions")
        ),
        sa.PrimaryKeyConstraint("petition_id", "threshold_count", name=op.f("pk_petition_milestones")),
    )
    op.create_table(
        "petition_texts",
        sa.Column("petition_id", sa.Uuid(), nullable=False),
        sa.Column("locale", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("ask", sa.Text(), nullable=False),
        sa.Column("background", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["petition_id"], ["petitions.id"], name=op.f("fk_petition_texts__petition_id__petitions")
        ),
        sa.PrimaryKeyConstraint("petition_id", "locale", name=op.f("pk_petition_texts")),
    )
    op.create_index(
        op.f("uq_organizations__kind"),
        "organizations",
        ["kind"],
        unique=True,
        postgresql_where=sa.text("kind = 'movement'"),
    )
    # The movement itself: there is exactly one, and everything else hangs on it.
    op.bulk_insert(
        organizations,
        [
            {
                "id": uuid7(),
                "slug": "movement",
                "name": "The movement",
                "kind": "movement",
                "created_at": now(),
            }
        ],
    )


def downgrade() -> None:
    op.drop_table("petition_texts")
    op.drop_table("petition_milestones")
    op.drop_index(op.f("ix_petitions__campaign_id"), table_name="petitions")
    op.drop_table("petitions")
    op.drop_index(op.f("ix_campaign_updates__campaign_id"), table_name="campaign_updates")
    op.drop_table("campaign_updates")
    op.drop_index(op.f("ix_campaign_targets__campaign_id"), table_name="campaign_targets")
    op.drop_table("campaign_targets")
    op.drop_index(op.f("ix_api_keys__organization_id"), table_name="api_keys")
    op.drop_table("api_keys")
    op.drop_table("signatures")
    op.drop_table("signature_tallies")
    op.drop_table("organizations")
    op.drop_table("digest_keys")
    op.drop_table("campaigns")
