"""Transactions of the person at the command line, under the name of their account."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.orm import Session

from federation.delivery.runtime import transactions
from federation.local.elsewhere import check_database
from federation.local.person import person
from federation.settings import settings

T = TypeVar("T")


def check() -> None:
    """Pass if PostgreSQL takes us. Raises SettingsError or DatabaseUnavailable, which say what to do."""
    for role in ("database_url", "database_service_url"):
        check_database(settings(), role)


def transact(work: Callable[[Session], T]) -> T:
    """Do this in one transaction. Raises SettingsError or DatabaseUnavailable where PostgreSQL does not take us, and what the work raises."""
    check()
    with transactions().begin(person()) as session:
        return work(session)
