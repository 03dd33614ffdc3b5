"""What accounts have of their own, whatever repository it concerns: follows, votes, webhooks, uploads."""

from sqlalchemy.orm import Session

from lmcommons.hub.accounts.permissions import Action, Actor, require
from lmcommons.hub.database.tables import Account
from lmcommons.hub.errors import Unauthorized


def own_account(session: Session, actor: Actor, action: Action) -> Account:
    """The actor's account, in whose name the actor may do `action`.

    Raises:
        Unauthorized: nobody is signed in. Forbidden: the token may not.
    """
    account = session.get(Account, actor.account_id) if actor.account_id is not None else None
    if account is None:
        raise Unauthorized("You must be signed in; send a token with write access")
    require(actor, action, account)
    return account
