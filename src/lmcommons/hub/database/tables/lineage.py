"""What repositories say that they were made from."""

from enum import StrEnum

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from lmcommons.hub.database.tables.base import Table
from lmcommons.hub.database.tables.repositories import RepositoryType


class Relation(StrEnum):
    """How a repository was made from another one."""

    TRAINED_ON = "trained_on"  # a model, on a dataset
    FINETUNE = "finetune"  # a model, from another one: this and the next three are words of the card
    ADAPTER = "adapter"
    MERGE = "merge"
    QUANTIZED = "quantized"
    SOURCE = "source"  # a dataset, from another one


class LineageLink(Table):
    """One thing that a repository was made from, by the name in its card or recipe: it need not be on this hub."""

    __tablename__ = "lineage_links"
    __table_args__ = (Index("ix_lineage_links_type_name_key", "type", "name_key"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"), index=True)
    type: Mapped[RepositoryType]  # of what it was made from
    name: Mapped[str] = mapped_column(String(193))  # `namespace/name`, or `name` of a hub that has such ones
    name_key: Mapped[str] = mapped_column(String(193))
    relation: Mapped[Relation]
    revision: Mapped[str | None] = mapped_column(String(200))
    stated_in: Mapped[str] = mapped_column(String(16))  # the file that says so
