"""Waiting at the command line: looks again when the database tells of something, and polls nothing."""

import time
from collections.abc import Callable
from contextlib import closing
from typing import Annotated, Any, TypeVar

import psycopg
import typer

from federation.delivery.app import service_url
from federation.errors import DatabaseUnavailable
from federation.results.notices import wait_for_notices
from federation.results.patience import completed
from federation.settings import settings
from federation.transaction import NOTICE_CHANNEL

T = TypeVar("T")

LONGEST_WAIT_S = 86_400
# A notice may be lost; who waits looks by itself this often.
_LOOK_AGAIN_S = 30.0

Wait = Annotated[float, typer.Option("--wait", metavar="SECONDS", min=0, max=LONGEST_WAIT_S, help="Wait so long for it; 0 looks once.")]


def until(look: Callable[[], T | None], *, notice: str, wait_s: float) -> T | None:
    """Look until there is something, again whenever this notice comes; None after `wait_s` seconds.

    Raises DatabaseUnavailable, and what the look raises.
    """
    if wait_s == 0:
        return look()
    ends = time.monotonic() + wait_s
    with closing(listening()) as connection:
        while (found := look()) is None and (left_s := ends - time.monotonic()) > 0:
            await_notice(connection, notice, min(left_s, _LOOK_AGAIN_S))
    return found


def listening() -> psycopg.Connection[Any]:
    """Return a connection that hears what transactions tell. Raises DatabaseUnavailable."""
    try:
        connection = psycopg.connect(**completed(service_url(settings())), autocommit=True)
        connection.execute(f"LISTEN {NOTICE_CHANNEL}")
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable("PostgreSQL does not answer; call again later") from error
    return connection


def await_notice(connection: psycopg.Connection[Any], key: str, within_s: float) -> None:
    """Return when this notice comes, or after so many seconds. Raises DatabaseUnavailable."""
    until_s = time.monotonic() + within_s
    try:
        while (left_s := until_s - time.monotonic()) > 0:
            if key in wait_for_notices(connection, left_s):
                return
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable("PostgreSQL went away; call again, and you stand where you stood") from error
