"""Languages of accounts, links that are sent by mail, and invitations to organisations."""

import sqlalchemy as sa
from alembic import op

from lmcommons.hub.database.tables import UtcDateTime

revision = "0015"
down_revision = "0014"

ROLES = ("read", "contributor", "write", "admin")


def upgrade() -> None:
    op.add_column("accounts", sa.Column("language", sa.String(length=8), nullable=True))
    op.create_table(
        "mail_links",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column(
            "purpose", sa.Enum("email", "password", name="linkpurpose", native_enum=False, length=16), nullable=False
        ),
        sa.Column("address", sa.String(length=254), nullable=False),
        sa.Column("salt", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("mail_at", UtcDateTime(), nullable=True),
        sa.Column("mail_attempts", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_mail_links_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mail_links")),
        sa.UniqueConstraint("account_id", "purpose", name=op.f("uq_mail_links_account_id")),
        sa.UniqueConstraint("sha256", name=op.f("uq_mail_links_sha256")),
    )
    for column in ("created_at", "mail_at"):
        op.create_index(op.f(f"ix_mail_links_{column}"), "mail_links", [column], unique=False)
    op.create_table(
        "organisation_invitations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("organisation_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("inviter_id", sa.Integer(), nullable=True),
        sa.Column("role", sa.Enum(*ROLES, name="role", native_enum=False, length=16), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("mail_at", UtcDateTime(), nullable=True),
        sa.Column("mail_attempts", sa.Integer(), nullable=False),
        *(
            sa.ForeignKeyConstraint(
                [column],
                ["accounts.id"],
                name=op.f(f"fk_organisation_invitations_{column}"),
                ondelete="SET NULL" if column == "inviter_id" else "CASCADE",
            )
            for column in ("organisation_id", "user_id", "inviter_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organisation_invitations")),
        sa.UniqueConstraint("organisation_id", "user_id", name=op.f("uq_organisation_invitations_organisation_id")),
    )
    for column in ("user_id", "inviter_id", "created_at", "mail_at"):
        op.create_index(
            op.f(f"ix_organisation_invitations_{column}"), "organisation_invitations", [column], unique=False
        )
