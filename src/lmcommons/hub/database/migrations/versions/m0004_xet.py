"""Xorbs, the files made of them, and who has which."""

import sqlalchemy as sa
from alembic import op

from lmcommons.hub.database.tables import UtcDateTime

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "xet_files",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_xet_files")),
    )
    op.create_index(op.f("ix_xet_files_sent_at"), "xet_files", ["sent_at"], unique=False)
    op.create_index(op.f("ix_xet_files_sha256"), "xet_files", ["sha256"], unique=False)
    op.create_table(
        "xet_generations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_xet_generations")),
    )
    op.create_table(
        "xet_xorbs",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=96), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("chunks", sa.LargeBinary(), nullable=False),
        sa.Column("sent_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_xet_xorbs")),
    )
    op.create_index(op.f("ix_xet_xorbs_sent_at"), "xet_xorbs", ["sent_at"], unique=False)
    op.create_table(
        "xet_chunks",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("xorb_hash", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["xorb_hash"], ["xet_xorbs.hash"], name=op.f("fk_xet_chunks_xorb_hash"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("hash", "xorb_hash", name=op.f("pk_xet_chunks")),
    )
    op.create_index(op.f("ix_xet_chunks_xorb_hash"), "xet_chunks", ["xorb_hash"], unique=False)
    op.create_table(
        "xet_senders",
        sa.Column("xorb_hash", sa.String(length=64), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_xet_senders_account_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["xorb_hash"], ["xet_xorbs.hash"], name=op.f("fk_xet_senders_xorb_hash"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("xorb_hash", "account_id", name=op.f("pk_xet_senders")),
    )
    op.create_index(op.f("ix_xet_senders_account_id"), "xet_senders", ["account_id"], unique=False)
    op.create_table(
        "xet_terms",
        sa.Column("file_hash", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("xorb_hash", sa.String(length=64), nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("stop", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["file_hash"], ["xet_files.hash"], name=op.f("fk_xet_terms_file_hash"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["xorb_hash"], ["xet_xorbs.hash"], name=op.f("fk_xet_terms_xorb_hash")),
        sa.PrimaryKeyConstraint("file_hash", "position", name=op.f("pk_xet_terms")),
    )
    op.create_index("ix_xet_terms_file_hash_offset", "xet_terms", ["file_hash", "offset"], unique=False)
    op.create_index(op.f("ix_xet_terms_xorb_hash"), "xet_terms", ["xorb_hash"], unique=False)
    op.create_table(
        "xet_links",
        sa.Column("bucket_id", sa.Integer(), nullable=False),
        sa.Column("file_hash", sa.String(length=64), nullable=False),
        sa.Column("sent_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["file_hash"], ["xet_files.hash"], name=op.f("fk_xet_links_file_hash"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("bucket_id", "file_hash", name=op.f("pk_xet_links")),
    )
    op.create_index(op.f("ix_xet_links_file_hash"), "xet_links", ["file_hash"], unique=False)
