"""Search index, what lists sort and filter by, downloads by day, evaluation results."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

# The triggers that SQLite's documentation gives for an index of a table that holds the text: https://sqlite.org/fts5.html
SQLITE = (
    """CREATE VIRTUAL TABLE repository_search USING fts5(
        name, text, content='repository_terms', content_rowid='repository_id', detail='none',
        tokenize="unicode61 remove_diacritics 0 categories 'L* N* M* Co'", prefix='1 2 3')""",
    """CREATE TRIGGER repository_terms_added AFTER INSERT ON repository_terms BEGIN
        INSERT INTO repository_search(rowid, name, text) VALUES (new.repository_id, new.name, new.text);
    END""",
    """CREATE TRIGGER repository_terms_deleted AFTER DELETE ON repository_terms BEGIN
        INSERT INTO repository_search(repository_search, rowid, name, text)
            VALUES ('delete', old.repository_id, old.name, old.text);
    END""",
    """CREATE TRIGGER repository_terms_changed AFTER UPDATE ON repository_terms BEGIN
        INSERT INTO repository_search(repository_search, rowid, name, text)
            VALUES ('delete', old.repository_id, old.name, old.text);
        INSERT INTO repository_search(rowid, name, text) VALUES (new.repository_id, new.name, new.text);
    END""",
)
POSTGRESQL = (
    """ALTER TABLE repository_terms ADD COLUMN vector tsvector
        GENERATED ALWAYS AS (array_to_tsvector(array_remove(string_to_array(name || ' ' || text, ' '), ''))) STORED""",
    "CREATE INDEX ix_repository_terms_vector ON repository_terms USING gin (vector)",
)

SORTED = ("created_at", "downloads", "likes", "trending")


def upgrade() -> None:
    with op.batch_alter_table("repositories", recreate="never") as table:
        table.drop_column("terms")
        table.add_column(sa.Column("pipeline_tag", sa.String(200)))
        table.add_column(sa.Column("library", sa.String(200)))
        table.add_column(sa.Column("parameter_count", sa.BigInteger()))
        table.add_column(sa.Column("downloads_all_time", sa.BigInteger(), nullable=False, server_default="0"))
        table.add_column(sa.Column("trending", sa.Float(53), nullable=False, server_default="0"))
        for column in SORTED:
            table.create_index(f"ix_repositories_type_{column}", ["type", column])
    with op.batch_alter_table("repository_tags", recreate="never") as table:
        table.add_column(sa.Column("kind", sa.String(24), nullable=False, server_default="other"))
        table.drop_index("ix_repository_tags_tag")
        table.create_index("ix_repository_tags_tag", ["tag", "kind", "repository_id"])
    op.create_table(
        "repository_terms",
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name=op.f("fk_repository_terms_repository_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("repository_id", name=op.f("pk_repository_terms")),
    )
    op.create_table(
        "daily_downloads",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name=op.f("fk_daily_downloads_repository_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("day", "repository_id", name=op.f("pk_daily_downloads")),
    )
    op.create_index(op.f("ix_daily_downloads_repository_id"), "daily_downloads", ["repository_id"])
    op.create_table(
        "evaluation_results",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("pull_request", sa.Integer(), nullable=True),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("dataset_key", sa.String(193), nullable=False),
        sa.Column("task_id", sa.String(200), nullable=False),
        sa.Column("value", sa.Float(53), nullable=False),
        sa.Column("entry", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name=op.f("fk_evaluation_results_repository_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluation_results")),
    )
    op.create_index("ix_evaluation_results_dataset_task", "evaluation_results", ["dataset_key", "task_id"])
    op.create_index(op.f("ix_evaluation_results_repository_id"), "evaluation_results", ["repository_id"])
    for statement in SQLITE if op.get_bind().dialect.name == "sqlite" else POSTGRESQL:
        op.execute(statement)
    # What was indexed before is told apart from what must be indexed now by its head.
    op.execute("UPDATE repositories SET head = NULL, downloads_all_time = downloads, downloads = 0")
