"""Nothing: garbage collection reads what other tables say of objects."""

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    pass
