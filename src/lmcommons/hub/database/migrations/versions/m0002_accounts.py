"""Passwords, sessions, invitations, device logins, fine-grained tokens, quotas, gated access."""

import sqlalchemy as sa
from alembic import op

from lmcommons.hub.database.tables import UtcDateTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("accounts", sa.Column("disabled", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("accounts", sa.Column("password_hash", sa.String(length=200), nullable=True))
    op.add_column("accounts", sa.Column("quota", sa.BigInteger(), nullable=True))
    op.add_column("tokens", sa.Column("scopes", sa.JSON(), nullable=True))
    op.add_column("tokens", sa.Column("expires_at", UtcDateTime(), nullable=True))
    op.add_column("tokens", sa.Column("last_used_at", UtcDateTime(), nullable=True))
    op.add_column("tokens", sa.Column("refresh_sha256", sa.String(length=64), nullable=True))
    op.create_index(op.f("ix_tokens_refresh_sha256"), "tokens", ["refresh_sha256"], unique=True)
    op.add_column(
        "repositories",
        sa.Column(
            "gated",
            sa.Enum("", "auto", "manual", name="gate", native_enum=False, length=16),
            server_default="",
            nullable=False,
        ),
    )
    op.create_table(
        "browser_sessions",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_browser_sessions_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_browser_sessions")),
    )
    op.create_index(op.f("ix_browser_sessions_account_id"), "browser_sessions", ["account_id"], unique=False)
    op.create_table(
        "invitations",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("uses_left", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_invitations")),
    )
    op.create_table(
        "device_logins",
        sa.Column("device_sha256", sa.String(length=64), nullable=False),
        sa.Column("user_sha256", sa.String(length=64), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=True),
        sa.Column("denied", sa.Boolean(), nullable=False),
        sa.Column("asked_at", UtcDateTime(), nullable=True),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_device_logins_account_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("device_sha256", name=op.f("pk_device_logins")),
        sa.UniqueConstraint("user_sha256", name=op.f("uq_device_logins_user_sha256")),
    )
    op.create_table(
        "access_requests",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column(
            "status",
            sa.Enum("pending", "accepted", "rejected", name="accessstatus", native_enum=False, length=16),
            nullable=False,
        ),
        sa.Column("granted", sa.Boolean(), nullable=False),
        sa.Column("fields", sa.JSON(), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name=op.f("fk_access_requests_repository_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["accounts.id"], name=op.f("fk_access_requests_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_requests")),
        sa.UniqueConstraint("repository_id", "user_id", name=op.f("uq_access_requests_repository_id")),
    )
    op.create_index(op.f("ix_access_requests_user_id"), "access_requests", ["user_id"], unique=False)
