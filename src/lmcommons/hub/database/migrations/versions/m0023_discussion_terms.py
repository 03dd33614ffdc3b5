"""Search index of discussions, made like that of repositories in m0006; the hub fills it when it starts."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"

SQLITE = (
    """CREATE VIRTUAL TABLE discussion_search USING fts5(
        text, content='discussion_terms', content_rowid='id', detail='none',
        tokenize="unicode61 remove_diacritics 0 categories 'L* N* M* Co'", prefix='1 2 3')""",
    """CREATE TRIGGER discussion_terms_added AFTER INSERT ON discussion_terms BEGIN
        INSERT INTO discussion_search(rowid, text) VALUES (new.id, new.text);
    END""",
    """CREATE TRIGGER discussion_terms_deleted AFTER DELETE ON discussion_terms BEGIN
        INSERT INTO discussion_search(discussion_search, rowid, text) VALUES ('delete', old.id, old.text);
    END""",
    """CREATE TRIGGER discussion_terms_changed AFTER UPDATE ON discussion_terms BEGIN
        INSERT INTO discussion_search(discussion_search, rowid, text) VALUES ('delete', old.id, old.text);
        INSERT INTO discussion_search(rowid, text) VALUES (new.id, new.text);
    END""",
)
POSTGRESQL = (
    """ALTER TABLE discussion_terms ADD COLUMN vector tsvector
        GENERATED ALWAYS AS (array_to_tsvector(array_remove(string_to_array(text, ' '), ''))) STORED""",
    "CREATE INDEX ix_discussion_terms_vector ON discussion_terms USING gin (vector)",
)

# Letters that terms no longer have: repositories with one are indexed again, as after m0006.
FOLDED = "[\u0131\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06ed]"


def upgrade() -> None:
    op.create_table(
        "discussion_terms",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("discussion_id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["discussion_id"], ["discussions.id"], name=op.f("fk_discussion_terms_discussion_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["version_id"], ["comment_versions.id"], name=op.f("fk_discussion_terms_version_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_discussion_terms")),
        sa.UniqueConstraint("version_id", name=op.f("uq_discussion_terms_version_id")),
    )
    op.create_index(op.f("ix_discussion_terms_discussion_id"), "discussion_terms", ["discussion_id"])
    op.create_index(
        "ix_comment_versions_withheld",
        "comment_versions",
        ["id"],
        sqlite_where=sa.text("withheld IS 1"),
        postgresql_where=sa.text("withheld IS true"),
    )
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in SQLITE if is_sqlite else POSTGRESQL:
        op.execute(statement)
    found = sa.column("text").op("GLOB")(f"*{FOLDED}*") if is_sqlite else sa.column("text").op("~")(FOLDED)
    affected = (
        sa.select(sa.column("repository_id", sa.Integer())).select_from(sa.table("repository_terms")).where(found)
    )
    repositories = sa.table("repositories", sa.column("id"), sa.column("head"))
    op.execute(repositories.update().where(repositories.c.id.in_(affected)).values(head=None))
