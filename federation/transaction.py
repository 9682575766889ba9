"""The only commit in the program: a transaction with an actor, then the hand-over of what it recorded to a publisher."""

import logging
import secrets
import select
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Protocol

import psycopg
from psycopg.errors import UniqueViolation
from psycopg.pq import Escaping, ExecStatus
from psycopg.pq.abc import PGresult
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, InvalidatePoolError, InvalidRequestError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from federation.errors import Conflict, DatabaseUnavailable, Equivocation, TransientError
from federation.results.patience import patience
from federation.security.statements import Voice
from federation.services import statements
from federation.services.charter import is_agent
from federation.store import event_log, unreadable
from federation.store.context import ACTOR_SETTING, Context, Unsent, attach

logger = logging.getLogger(__name__)

NOTICE_CHANNEL = "federation"
_NOTIFY = text("SELECT pg_notify(:channel, key) FROM unnest(CAST(:keys AS text[])) AS key")
_BEGIN = b"BEGIN; SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, set_config('" + ACTOR_SETTING.encode() + b"', %b, true)"
_ACT = "SELECT clock_timestamp(), set_config(:setting, :actor, true)"
_AWAY = "PostgreSQL does not answer; nothing was recorded, call again later"
_NONE_FREE = "no connection to PostgreSQL became free in time; call again later"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Deadlock, serialisation failure, lock not available: the same transaction may succeed at once.
_IN_THE_WAY = {"40001", "40P01", "55P03"}
# What is written there takes its place first, and nobody else has taken that.
_PLACES = {
    "pk_ballots",
    "pk_conversation_phases",
    "pk_message_receipts",
    "uq_agent_findings_session_id_position",
    "uq_events_stream_position",
    "uq_messages_conversation_id_position",
}


class Publisher(Protocol):
    """Sends recorded executions; what it cannot send stays in the outbox for the sweep."""

    def publish(self, unsent: Sequence[Unsent]) -> None:
        """Send these executions; never raises for a broker that is away."""
        ...

    def cancel(self, execution_ids: Sequence[uuid.UUID]) -> None:
        """Tell workers and waiters that these executions were cancelled; never raises, because the database has decided it."""
        ...


class Silent:
    """The publisher of transactions that record no executions."""

    def publish(self, unsent: Sequence[Unsent]) -> None: ...

    def cancel(self, execution_ids: Sequence[uuid.UUID]) -> None: ...


def new_trace_id() -> str:
    """Return a fresh trace id: 32 hexadecimal digits, as W3C Trace Context has it."""
    return secrets.token_hex(16)


def connect(url: str, *, most: int = 10) -> Engine:
    """Return an engine of `most` connections for a `postgresql://` URL; they are looked at before use, so that a restarted server goes unnoticed."""
    full = make_url("postgresql+psycopg://" + url.split("://", 1)[1])
    # None is closed because others lie idle: a new one takes both sides milliseconds of their processors, for its password and the statements that it
    # does not know. The one that was used last is used first, so that few know all.
    engine = create_engine(
        full,
        pool_size=most,
        max_overflow=0,
        pool_use_lifo=True,
        connect_args=patience(full.query),
        hide_parameters=True,
        json_deserializer=unreadable.loads,
    )
    event.listen(engine, "connect", _adapt)
    event.listen(engine, "checkout", _refuse_ended)
    return engine


def _adapt(connection: psycopg.Connection, *_: object) -> None:
    unreadable.adapt(connection)


def _refuse_ended(connection: psycopg.Connection, *_: object) -> None:
    # Over a connection that nobody uses nothing comes but the server's farewell, so that no question goes to and fro before each transaction.
    if connection.closed:
        raise InvalidatePoolError("the connection is closed")
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    if waiting.poll(0):
        try:
            connection.execute("SELECT")
            connection.rollback()
        except psycopg.Error as error:
            raise InvalidatePoolError("the server has ended the connection") from error


def _translated(error: DBAPIError, *, committing: bool) -> TransientError | Conflict | None:
    if _state(error) in _IN_THE_WAY:
        return TransientError("another transaction was in the way; call again")
    if isinstance(error.orig, UniqueViolation) and error.orig.diag.constraint_name in _PLACES:
        return event_log.occupied(f"{error.orig.diag.table_name}: {error.orig.diag.message_detail}")
    if not (error.connection_invalidated or _is_away(error)):
        return None
    if _state(error) == "53100" and not committing:
        return DatabaseUnavailable("PostgreSQL has no room left on its disk; nothing was recorded: make room, and call again")
    if committing:
        return DatabaseUnavailable("PostgreSQL went away while it committed; look whether it was recorded before you call again")
    return DatabaseUnavailable(_AWAY)


def _is_away(error: DBAPIError) -> bool:
    # Without a state it is the client that lost or never had the server; of the server's own: it shuts down, or has no room for us, in its
    # connections or on its disk, which it cannot use at times. Not what only one statement was too large for.
    state = _state(error)
    return isinstance(error, OperationalError) and (state is None or state.startswith(("08", "57P")) or state in {"53100", "53300", "58030"})


def _state(error: DBAPIError) -> str | None:
    state: str | None = getattr(error.orig, "sqlstate", None)
    return state


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """Yield a session that reads and sees one moment, however long it takes. Raises DatabaseUnavailable, TransientError."""
    with (
        _in_our_words(),
        _connected(engine).execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True) as connection,
        Session(connection) as session,
    ):
        yield session


@contextmanager
def _in_our_words() -> Iterator[None]:
    """Raise our error for what the driver raises where nothing is committed by us."""
    try:
        yield
    except PoolTimeoutError as error:
        raise DatabaseUnavailable(_NONE_FREE) from error
    except DBAPIError as error:
        ours = _translated(error, committing=False)
        if ours is None:
            raise
        raise ours from error


def _began(session: Session, actor: str) -> datetime:
    """Begin, and say in the database who acts; return its time."""
    with _several_tries():
        connection = session.connection()
    line: psycopg.Connection | None = connection.connection.driver_connection
    assert line is not None
    # As one message: to begin, and to say who acts, would be a journey each.
    found: PGresult | None = None
    # What libpq cannot even send has no answer, which psycopg's binary takes for want of memory.
    with suppress(psycopg.Error, MemoryError):
        found = line.pgconn.exec_(_BEGIN % Escaping(line.pgconn).escape_literal(actor.encode()))
    if found is not None and found.status == ExecStatus.TUPLES_OK:
        return _EPOCH + timedelta(microseconds=int(found.get_value(0, 0) or 0))
    # The connection had ended without a sign. Nothing was done over it, and a new one is made.
    connection.invalidate()
    session.rollback()
    with _several_tries():
        began: datetime = session.execute(text(_ACT), {"setting": ACTOR_SETTING, "actor": actor}).scalar_one()
    return began


def _connected(engine: Engine) -> Connection:
    with _several_tries():
        return engine.connect()


@contextmanager
def _several_tries() -> Iterator[None]:
    # After connections that had ended as soon as they were made SQLAlchemy's pool makes no more, and says so as of a wrong call.
    try:
        yield
    except InvalidRequestError as error:
        raise DatabaseUnavailable(_AWAY) from error


class Transactions:
    """Opens transactions for the doors: MCP tools, executions, commands.

    Who acts decides as what we connect: an agent over `engine`, whose role sees what this agent may see; an operator or a part of the program
    over `service`. Without one all goes over `engine`: for parts that act for no agent.
    """

    def __init__(self, engine: Engine, publisher: Publisher, *, service: Engine | None = None, voice: Voice | None = None) -> None:
        """`voice` signs what is stated in these transactions, unless one brings its own; without any, nothing is stated."""
        self.engine, self.service = engine, service or engine
        self._publisher = publisher
        self._voice = voice
        # Tells whom to wake without keeping the caller waiting; False where it cannot.
        self.tell: Callable[[Sequence[str]], bool] | None = None

    @contextmanager
    def begin(
        self,
        actor: str,
        *,
        trace_id: str | None = None,
        execution_id: uuid.UUID | None = None,
        voice: Voice | None = None,
    ) -> Iterator[Session]:
        """Yield a session whose writes commit together with their events and outbox entries.

        Raises DatabaseUnavailable where PostgreSQL does not answer, TransientError where the same call may succeed at once. An Equivocation
        that comes out of it is raised after the commit.
        """
        context = Context(actor=actor, trace_id=trace_id or new_trace_id(), execution_id=execution_id)
        committing = False
        equivocation: Equivocation | None = None
        try:
            with Session(self.engine if is_agent(actor) else self.service, expire_on_commit=False) as session:
                attach(session, context)
                statements.give_voice(session, voice or self._voice, part=self._voice)
                context.began = _began(session, actor)
                context.began_s = time.monotonic()
                try:
                    yield session
                except Equivocation as error:
                    equivocation = error
                session.flush()
                event_log.write(session)
                committing = True
                session.commit()
        except PoolTimeoutError as error:
            raise DatabaseUnavailable(_NONE_FREE) from error
        except DBAPIError as error:
            ours = _translated(error, committing=committing)
            if ours is None:
                raise
            raise ours from error
        self._after_commit(context)
        if equivocation is not None:
            raise equivocation

    @contextmanager
    def single(self) -> Iterator[Session]:
        """Yield a session as the program's own role for what one statement reads or notes: each is committed by itself, in nobody's name.

        Raises DatabaseUnavailable, TransientError.
        """
        with (
            _in_our_words(),
            self.service.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
            Session(connection) as session,
        ):
            yield session

    def _after_commit(self, context: Context) -> None:
        if context.notices:
            self._wake(sorted(context.notices))
        if context.outbox:
            self._publisher.publish(context.outbox)
        if context.cancelled:
            self._publisher.cancel(context.cancelled)

    def _wake(self, keys: Sequence[str]) -> None:
        # A second transaction, because NOTIFY inside the first holds a lock of the whole database across its WAL flush.
        # Who waits looks again by itself now and then, so a notice that is lost here delays and loses nothing.
        if self.tell is not None and self.tell(keys):
            return
        try:
            with self.service.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(_NOTIFY, {"channel": NOTICE_CHANNEL, "keys": list(keys)})
        except SQLAlchemyError:
            logger.warning("transaction.notice_deferred", extra={"keys": keys}, exc_info=True)
