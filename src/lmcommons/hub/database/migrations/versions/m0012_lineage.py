"""What a repository says that it was made from."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "lineage_links",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=193), nullable=False),
        sa.Column("name_key", sa.String(length=193), nullable=False),
        sa.Column("relation", sa.String(length=16), nullable=False),
        sa.Column("revision", sa.String(length=200), nullable=True),
        sa.Column("stated_in", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name=op.f("fk_lineage_links_repository_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lineage_links")),
    )
    op.create_index(op.f("ix_lineage_links_repository_id"), "lineage_links", ["repository_id"], unique=False)
    op.create_index("ix_lineage_links_type_name_key", "lineage_links", ["type", "name_key"], unique=False)
    op.execute("UPDATE repositories SET head = NULL")  # indexed again, they say what they were made from
