"""The declarative base: types, names of constraints, and columns that several tables share."""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from sqlalchemy import CheckConstraint, MetaData, Text, Uuid, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, mapped_column

from federation.store.context import ACTOR_SETTING

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Root of the models."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as it is
        datetime: TIMESTAMP(timezone=True),
        str: Text,
        uuid.UUID: Uuid,
        dict[str, Any]: JSONB,
        list[Any]: JSONB,
        list[str]: ARRAY(Text),
    }


Key = Annotated[uuid.UUID, mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))]
CreatedAt = Annotated[datetime, mapped_column(server_default=func.clock_timestamp())]

# A write outside of our transactions has no actor, and is refused for the null.
CURRENT_ACTOR = text(f"nullif(current_setting('{ACTOR_SETTING}', true), '')")
# Who wrote a row that nobody changes.
Actor = Annotated[str, mapped_column(server_default=CURRENT_ACTOR)]
# Who wrote a row last; an upsert and a statement in plain SQL must say it themselves.
UpdatedBy = Annotated[str, mapped_column(server_default=CURRENT_ACTOR, onupdate=CURRENT_ACTOR)]


def one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    """Return a CHECK that holds `column` to the values of an enumeration."""
    allowed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({allowed})", name=column)
