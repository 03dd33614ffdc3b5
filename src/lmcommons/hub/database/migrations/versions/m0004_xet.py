"""Xorbs and the files made of them."""

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    pass
