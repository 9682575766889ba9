"""Asks for rows that are not among many: with one parameter, however many these are."""

import uuid
from collections.abc import Collection
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Uuid, all_, literal


def none_of(column: Any, these: Collection[uuid.UUID]) -> ColumnElement[bool]:
    """Return the condition that a column is none of these."""
    found: ColumnElement[bool] = column != all_(literal(list(these), ARRAY(Uuid)))
    return found
