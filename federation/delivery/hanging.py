"""A part that acts for all and hangs, but does not die, gives way to another: PostgreSQL ends its sessions."""

from typing import Final

import psycopg
from sqlalchemy import Engine, event

# Who holds a lock and says nothing for so long hangs.
HANGS_S: Final = 60
# For the connection on which a part holds the lock by which it acts: it speaks at least each second, but while it works.
GIVE_WAY: Final = f"SET idle_session_timeout = '{HANGS_S}s'"
_END: Final = f"SET idle_in_transaction_session_timeout = '{HANGS_S}s'"


def end_what_hangs(engine: Engine) -> None:
    """Have transactions on this engine end that are silent for too long, with what they have locked."""
    event.listen(engine, "connect", _bound)


def _bound(connection: psycopg.Connection, _: object) -> None:
    connection.execute(_END)
    connection.commit()
