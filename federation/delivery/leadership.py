"""Which beat of several acts: who holds an advisory lock; reads and writes nothing else."""

import logging
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Executable, text
from sqlalchemy.exc import DBAPIError

from federation.delivery.hanging import GIVE_WAY

logger = logging.getLogger(__name__)

# The bytes of «beat».
LOCK = 0x62656174


class Leadership:
    """Holds an advisory lock on a connection of its own: who holds it acts, and who dies or hangs loses it.

    Beat asks often whether it still acts, so the same statement looks whether there is anything to do.
    """

    def __init__(self, engine: Engine, look: Executable) -> None:
        self._engine, self._look = engine, look
        self._connection: Connection | None = None
        self._since: datetime | None = None
        # The answer of the look.
        self.seen: Any = None

    def since(self) -> datetime | None:
        """Look, and return since when this beat acts, by the database's clock; None if another does.

        Raises sqlalchemy's DBAPIError where PostgreSQL does not answer.
        """
        self._connection = self._connection or self._taken()
        if self._connection is None:
            return None
        try:
            self.seen = self._connection.execute(self._look).one()
        except DBAPIError:
            self.release()
            raise
        return self._since

    def _taken(self) -> Connection | None:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        if not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK}).scalar_one():
            connection.close()
            return None
        connection.execute(text(GIVE_WAY))
        # In a statement of its own, so that whoever led before did all that it did earlier than this.
        self._since = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        logger.info("beat.leads")
        return connection

    def release(self) -> None:
        """Let another beat act."""
        if self._connection is not None:
            # Not back into the pool: the lock lives as long as the connection.
            self._connection.invalidate()
            self._connection.close()
            self._connection = None
