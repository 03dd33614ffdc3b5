"""Buckets and their files."""

import sqlalchemy as sa
from alembic import op

from lmcommons.hub.database.tables import UtcDateTime

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "buckets",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("creator_id", sa.Integer(), nullable=True),
        sa.Column("name", sa.String(length=96), nullable=False),
        sa.Column("name_key", sa.String(length=96), nullable=False),
        sa.Column("private", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("total_files", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_buckets_account_id")),
        sa.ForeignKeyConstraint(
            ["creator_id"], ["accounts.id"], name=op.f("fk_buckets_creator_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_buckets")),
        sa.UniqueConstraint("account_id", "name_key", name=op.f("uq_buckets_account_id")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "bucket_files",
        sa.Column("bucket_id", sa.Integer(), nullable=False),
        sa.Column(
            "path",
            sa.String(length=1024).with_variant(sa.String(length=1024, collation="C"), "postgresql"),
            nullable=False,
        ),
        sa.Column("xet_hash", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("mtime", UtcDateTime(), nullable=True),
        sa.Column("uploaded_at", UtcDateTime(), nullable=False),
        sa.Column("content_type", sa.String(length=128), nullable=True),
        sa.ForeignKeyConstraint(
            ["bucket_id"], ["buckets.id"], name=op.f("fk_bucket_files_bucket_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("bucket_id", "path", name=op.f("pk_bucket_files")),
    )
    op.create_index("ix_bucket_files_bucket_id_xet_hash", "bucket_files", ["bucket_id", "xet_hash"], unique=False)
    op.create_index(op.f("ix_bucket_files_sha256"), "bucket_files", ["sha256"], unique=False)
    op.create_table(
        "bucket_changes",
        sa.Column("bucket_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column(
            "kind", sa.Enum("add", "update", "delete", name="changekind", native_enum=False, length=16), nullable=False
        ),
        sa.Column("path", sa.String(length=1024), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("xet_hash", sa.String(length=64), nullable=True),
        sa.Column("mtime", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["bucket_id"], ["buckets.id"], name=op.f("fk_bucket_changes_bucket_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("bucket_id", "number", name=op.f("pk_bucket_changes")),
    )
    op.create_table(
        "former_bucket_names",
        sa.Column("full_name_key", sa.String(length=193), nullable=False),
        sa.Column("bucket_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["bucket_id"], ["buckets.id"], name=op.f("fk_former_bucket_names_bucket_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("full_name_key", name=op.f("pk_former_bucket_names")),
    )
    op.create_index(op.f("ix_former_bucket_names_bucket_id"), "former_bucket_names", ["bucket_id"], unique=False)
