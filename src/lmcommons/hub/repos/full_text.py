"""Rows of a table of terms (`terms.py` makes them) by what they hold: the full-text index of either database."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Integer, Select, cast, column, literal_column, select, table
from sqlalchemy.dialects.postgresql import TSQUERY, TSVECTOR
from sqlalchemy.orm import Session

from lmcommons.hub.database.tables import DiscussionTerms, RepositoryTerms


def rows(
    session: Session, of: type[RepositoryTerms | DiscussionTerms], beginnings: Sequence[str], *whole: str
) -> Select[Any]:
    """The keys of the rows that have all terms of `whole` and, for each of `beginnings`, one that begins with it."""
    if session.get_bind().dialect.name == "sqlite":
        name = of.__tablename__.replace("terms", "search")
        asked = " AND ".join([*(f'"{term}"' for term in whole), *(f'"{term}"*' for term in beginnings)])
        index = select(column("rowid", Integer)).select_from(table(name))
        return index.where(literal_column(name).op("MATCH")(asked))
    asked = " & ".join([*(f"'{term}'" for term in whole), *(f"'{term}':*" for term in beginnings)])
    vector = literal_column(f"{of.__tablename__}.vector", TSVECTOR)
    (key,) = of.__table__.primary_key
    return select(key).where(vector.op("@@")(cast(asked, TSQUERY)))
