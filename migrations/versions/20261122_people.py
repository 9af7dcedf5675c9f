"""People: confirmation, consent, their own page, and what stands against abuse

It must run while the previous version of the code is still serving: columns are added without a value, so that no
table is rewritten. What takes long on a large table follows in a revision of its own.
"""

import sqlalchemy as sa
from alembic import op

revision = "20261122_people"
down_revision = "20261122_foundation"
branch_labels = None
depends_on = None

_PURPOSES = "('news', 'phone', 'location')"
_SIGNATURE_COLUMNS = (
    ("address_digest", sa.LargeBinary()),
    ("domain_digest", sa.LargeBinary()),
    ("disposable", sa.Boolean()),
    ("partner_id", sa.Uuid()),
    ("held", sa.Boolean()),
    ("mail_due_at", sa.DateTime(timezone=True)),
    ("mail_since", sa.DateTime(timezone=True)),
    ("due_mail", sa.Text()),
    ("mail_count", sa.SmallInteger()),
    ("consents_due", sa.Boolean()),
    ("proven", sa.Boolean()),
    ("invalidation_id", sa.Uuid()),
    ("state_before", sa.Text()),
)
_SIGNATURE_CHECKS = {
    "state_before": "(state = 'invalidated') = (state_before IS NOT NULL)",
    "due_mail": "due_mail IN ('confirm_signature', 'already_signed')",
}
# Nobody changes what somebody once said; only an erasure takes it away.
_APPEND_ONLY = """
    CREATE FUNCTION consents_are_appended_to() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the ledger of consents is only ever appended to'; END $$
"""
_GUARD = "CREATE TRIGGER appended_to BEFORE UPDATE ON consents EXECUTE FUNCTION consents_are_appended_to()"


def upgrade() -> None:
    _change_petitions()
    _change_signatures()
    _create_people()
    _create_consents()
    _create_sign_ins()
    op.create_table(
        "address_salts",
        sa.Column("salted_on", sa.Date(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("salted_on", name=op.f("pk_address_salts")),
    )
    op.create_table(
        "invalidations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("petition_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("signed_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("slice", sa.Integer(), nullable=False),
        sa.Column("slice_count", sa.Integer(), nullable=False),
        sa.Column("invalidated_count", sa.BigInteger(), nullable=False),
        sa.Column("restored_count", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state IN ('draft', 'applying', 'applied', 'undoing', 'undone')", name=op.f("ck_invalidations__state")
        ),
        sa.ForeignKeyConstraint(
            ["petition_id"], ["petitions.id"], name=op.f("fk_invalidations__petition_id__petitions")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invalidations")),
    )
    op.create_index(op.f("ix_invalidations__petition_id"), "invalidations", ["petition_id"])


def _change_petitions() -> None:
    op.add_column("petitions", sa.Column("challenge", sa.Text(), nullable=False, server_default="none"))
    op.add_column("petitions", sa.Column("address_limit", sa.Integer(), nullable=True))
    for name in ("release_held_before", "personal_data_destroyed_at"):
        op.add_column("petitions", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    op.add_column("petitions", sa.Column("personal_data_until", sa.Date(), nullable=True))
    op.create_check_constraint(op.f("ck_petitions__challenge"), "petitions", "challenge IN ('none', 'altcha')")
    op.create_check_constraint(op.f("ck_petitions__address_limit"), "petitions", "address_limit > 0")


def _change_signatures() -> None:
    for name, kind in _SIGNATURE_COLUMNS:
        op.add_column("signatures", sa.Column(name, kind, nullable=True))
    # Of those that are there already it is made sure later, while people sign (the next revision).
    for name, condition in _SIGNATURE_CHECKS.items():
        op.create_check_constraint(op.f(f"ck_signatures__{name}"), "signatures", condition, postgresql_not_valid=True)


def _create_people() -> None:
    op.create_table(
        "people",
        sa.Column("signer", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("octet_length(signer) = 16", name=op.f("ck_people__signer")),
        sa.PrimaryKeyConstraint("signer", name=op.f("pk_people")),
    )
    op.create_index(op.f("ix_people__looked_at"), "people", ["looked_at"])
    op.create_table(
        "mails",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("signer", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("mail_count", sa.SmallInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('sign_in', 'welcome')", name=op.f("ck_mails__kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mails")),
    )
    op.create_index(
        "ix_mails__kind_due_at", "mails", ["kind", "due_at"], postgresql_where=sa.text("due_at IS NOT NULL")
    )
    op.create_index(op.f("ix_mails__signer"), "mails", ["signer"])


def _create_consents() -> None:
    op.create_table(
        "consent_texts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("locale", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(f"purpose IN {_PURPOSES}", name=op.f("ck_consent_texts__purpose")),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_consent_texts__organization_id__organizations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_consent_texts")),
        sa.UniqueConstraint(
            "organization_id", "purpose", "version", name=op.f("uq_consent_texts__organization_id_purpose_version")
        ),
    )
    op.create_table(
        "consents",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("signer", sa.LargeBinary(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("given", sa.Boolean(), nullable=False),
        sa.Column("proven", sa.Boolean(), nullable=False),
        sa.Column("text_id", sa.Uuid(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("petition_id", sa.Uuid(), nullable=True),
        sa.Column("partner_id", sa.Uuid(), nullable=True),
        sa.Column("page", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(f"purpose IN {_PURPOSES}", name=op.f("ck_consents__purpose")),
        sa.CheckConstraint("octet_length(signer) = 16", name=op.f("ck_consents__signer")),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name=op.f("fk_consents__organization_id__organizations")
        ),
        sa.ForeignKeyConstraint(
            ["partner_id"], ["organizations.id"], name=op.f("fk_consents__partner_id__organizations")
        ),
        sa.ForeignKeyConstraint(["text_id"], ["consent_texts.id"], name=op.f("fk_consents__text_id__consent_texts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_consents")),
    )
    op.create_index("ix_consents__signer", "consents", ["signer", "organization_id", "purpose", "decided_at"])
    op.create_index("ix_consents__organization_id", "consents", ["organization_id", "purpose", "signer", "decided_at"])
    op.execute(_APPEND_ONLY)
    op.execute(_GUARD)


def _create_sign_ins() -> None:
    op.create_table(
        "sign_ins",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("signer", sa.LargeBinary(), nullable=False),
        sa.Column("binding_digest", sa.LargeBinary(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_ins")),
    )
    op.create_index(op.f("ix_sign_ins__signer"), "sign_ins", ["signer"])
    op.create_table(
        "person_sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("signer", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_person_sessions")),
        sa.UniqueConstraint("digest", name=op.f("uq_person_sessions__digest")),
    )
    op.create_index(op.f("ix_person_sessions__signer"), "person_sessions", ["signer"])


def downgrade() -> None:
    """Take it all away again; what was entered since is lost, and invalidated signatures must be restored before."""
    for table in ("person_sessions", "sign_ins", "consents", "consent_texts", "mails", "people"):
        op.drop_table(table)
    op.execute("DROP FUNCTION consents_are_appended_to()")
    op.drop_table("invalidations")
    op.drop_table("address_salts")
    for name in _SIGNATURE_CHECKS:
        op.drop_constraint(op.f(f"ck_signatures__{name}"), "signatures")
    for name, _ in reversed(_SIGNATURE_COLUMNS):
        op.drop_column("signatures", name)
    for name in ("address_limit", "challenge"):
        op.drop_constraint(op.f(f"ck_petitions__{name}"), "petitions")
    for name in (
        "personal_data_destroyed_at",
        "personal_data_until",
        "release_held_before",
        "address_limit",
        "challenge",
    ):
        op.drop_column("petitions", name)
