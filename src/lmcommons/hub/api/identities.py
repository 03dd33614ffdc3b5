"""Numbers of rows as the protocol writes them, 24 hexadecimal digits, and accounts as answers name them."""

from typing import Any

from lmcommons.hub.database.tables import Account, AccountKind
from lmcommons.hub.errors import NotFound

LARGEST = (1 << 31) - 1  # of what the database takes for a number


def object_id(number: int) -> str:
    """The id of a row."""
    return f"{number:024x}"


def number_of(text: str) -> int:
    """The number in an id.

    Raises:
        NotFound: there can be nothing of that id.
    """
    try:
        number = int(text, 16) if len(text) == 24 and text.isalnum() else 0
    except ValueError:
        number = 0
    if not 0 < number <= LARGEST:
        raise NotFound(f"No such id: {text[:40]!r}")
    return number


def account_fields(account: Account) -> dict[str, Any]:
    """An account, as authors and owners are named."""
    return {
        "_id": object_id(account.id),
        "name": account.name,
        "fullname": account.fullname,
        "avatarUrl": "",
        "type": "user" if account.kind is AccountKind.USER else "org",
    }
