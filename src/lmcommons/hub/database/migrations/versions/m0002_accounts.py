"""Passwords, sessions, invitations, device logins, fine-grained tokens, quotas, gated access."""

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    pass
