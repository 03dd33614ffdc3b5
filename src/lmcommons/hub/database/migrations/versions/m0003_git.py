"""Last commits of paths, LFS locks."""

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    pass
