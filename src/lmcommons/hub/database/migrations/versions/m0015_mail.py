"""Languages of accounts, addresses that are verified, and invitations to organisations."""

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    pass
