"""The floor: bare tools of FastMCP that do just the commits and the receipted sends which the same work needs; check nothing, keep no log of events.

`python -m benchmarks.coordination.floor PORT` is the server, with the URLs of its database and of ActiveMQ in its environment. It runs the loop, the
web server and the library that the front door runs. Who waits is woken within the process, which costs nothing.
"""

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import uvicorn
from fastmcp import FastMCP
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from benchmarks.coordination.stomp_line import StompLine

DATABASE, BROKER = "FLOOR_DATABASE_URL", "FLOOR_BROKER_URL"
TOPIC = "/topic/floor.states"
# As many as the front door has.
CONNECTIONS = 8
SCHEMA = """
    CREATE TABLE messages (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, sender text, recipient text, content text);
    CREATE INDEX ON messages (recipient, id);
    CREATE TABLE states (agent text PRIMARY KEY, summary text);
    CREATE TABLE claims (resource text PRIMARY KEY, holder text, token bigint GENERATED ALWAYS AS IDENTITY);
    CREATE TABLE votes (id uuid PRIMARY KEY, voters int, winner text);
    CREATE TABLE ballots (vote uuid, agent text, response text, PRIMARY KEY (vote, agent));
    CREATE TABLE tasks (id uuid PRIMARY KEY, author text, agent text, description text);
"""
# Nothing where somebody has it.
CLAIM = "INSERT INTO claims (resource, holder) VALUES (%s, %s) ON CONFLICT DO NOTHING RETURNING token"
# Nothing where a ballot is missing.
END_VOTE = """
    UPDATE votes SET winner = (SELECT mode() WITHIN GROUP (ORDER BY response) FROM ballots WHERE vote = %(vote)s)
    WHERE id = %(vote)s AND voters = (SELECT count(*) FROM ballots WHERE vote = %(vote)s) RETURNING winner
"""


class Floor:
    """Connections, and who is to be woken by what."""

    def __init__(self, database_url: str, broker_url: str) -> None:
        self.pool: AsyncConnectionPool[psycopg.AsyncConnection[TupleRow]] = AsyncConnectionPool(
            database_url, min_size=CONNECTIONS, max_size=CONNECTIONS, open=False, kwargs={"autocommit": True}
        )
        self._broker_url = broker_url
        self._woken: dict[str, asyncio.Event] = {}
        self._sending: set[asyncio.Future[None]] = set()
        self.line: StompLine | None = None
        # Of states, counted once they are committed.
        self.changes = 0

    async def run(self, sql: str, *values: Any, **named: Any) -> list[TupleRow]:
        """Run one statement, which is one commit if it writes."""
        async with self.pool.connection() as connection:
            cursor = await connection.execute(sql, values or named)
            return await cursor.fetchall() if cursor.description else []

    async def send(self, destination: str, body: str) -> None:
        """Send with a receipt."""
        assert self.line is not None
        await asyncio.to_thread(self.line.send, destination, body)

    def send_soon(self, destination: str, body: str) -> None:
        """The same, and nobody waits for it."""
        sending = asyncio.ensure_future(self.send(destination, body))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)

    def event(self, key: str) -> asyncio.Event:
        """Return what is set as soon as there is news of a key."""
        return self._woken.setdefault(key, asyncio.Event())

    def wake(self, key: str) -> None:
        """Let all go who wait for it."""
        if event := self._woken.pop(key, None):
            event.set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Connect."""
        await self.pool.open(wait=True)
        self.line = await asyncio.to_thread(StompLine, self._broker_url)
        yield
        await self.pool.close()


def build(floor: Floor) -> FastMCP[None]:  # noqa: PLR0915 - a statement is a tool
    """Return the server with its tools."""

    @asynccontextmanager
    async def lifespan(_: FastMCP[None]) -> AsyncIterator[None]:
        async with floor.open():
            yield

    server: FastMCP[None] = FastMCP("floor", lifespan=lifespan)

    async def tell(who: str, content: str, to: str) -> int:
        [[number]] = await floor.run("INSERT INTO messages (sender, recipient, content) VALUES (%s, %s, %s) RETURNING id", who, to, content)
        floor.wake(f"inbox:{to}")
        return int(number)

    @server.tool
    async def send(who: str, content: str, to: str) -> dict[str, Any]:
        """Send a message: one commit."""
        return {"message": await tell(who, content, to)}

    @server.tool
    async def inbox(who: str, after: int, wait_s: float) -> dict[str, Any]:
        """Wait for messages behind a cursor."""
        async with asyncio.timeout(wait_s):
            while True:
                event = floor.event(f"inbox:{who}")
                found = await floor.run("SELECT id, sender, content FROM messages WHERE recipient = %s AND id > %s ORDER BY id LIMIT 50", who, after)
                if found:
                    messages = [{"sender": sender, "content": content} for _, sender, content in found]
                    return {"messages": messages, "cursor": found[-1][0]}
                await event.wait()

    @server.tool
    async def end_of_inbox(who: str) -> dict[str, Any]:
        """Return the cursor behind all messages."""
        [[last]] = await floor.run("SELECT coalesce(max(id), 0) FROM messages WHERE recipient = %s", who)
        return {"cursor": last}

    @server.tool
    async def update_state(who: str, summary: str) -> dict[str, Any]:
        """Say what one does: one commit, and one receipted send."""
        await floor.run(
            "INSERT INTO states VALUES (%s, %s) ON CONFLICT (agent) DO UPDATE SET summary = excluded.summary",
            who,
            summary,
        )
        floor.changes += 1
        floor.wake("pulse")
        floor.send_soon(TOPIC, summary)
        return {"agent": who}

    @server.tool
    async def pulse(after: int, wait_s: float) -> dict[str, Any]:
        """Wait for a change behind a cursor."""
        async with asyncio.timeout(wait_s):
            while True:
                event = floor.event("pulse")
                # Not a number of the database's: of two, the later may be committed first.
                if (seen := floor.changes) > after:
                    rows = await floor.run("SELECT agent, summary FROM states ORDER BY agent")
                    return {"table": "\n".join(f"| {agent} | {summary} |" for agent, summary in rows), "cursor": seen}
                await event.wait()

    @server.tool
    async def claim(who: str, resource: str) -> dict[str, Any]:
        """Claim something: one commit."""
        won = await floor.run(CLAIM, resource, who)
        return {"claimed": bool(won), "fencing_token": won[0][0] if won else None}

    @server.tool
    async def open_vote(voters: int) -> dict[str, Any]:
        """Put something to the vote; it ends with the last ballot."""
        identity = uuid.uuid4()
        await floor.run("INSERT INTO votes VALUES (%s, %s, NULL)", identity, voters)
        return {"vote": str(identity)}

    @server.tool
    async def vote(who: str, vote: str, response: str) -> dict[str, Any]:
        """Vote: one commit; the last one ends the vote, which is another, because of two at once neither sees the other's."""
        await floor.run("INSERT INTO ballots VALUES (%s, %s, %s)", vote, who, response)
        ended = await floor.run(END_VOTE, vote=vote)
        return {"vote": vote, "winner": ended[0][0] if ended else None}

    @server.tool
    async def delegate(who: str, description: str, agent: str) -> dict[str, Any]:
        """Hand out work, and tell whom: one commit."""
        identity = uuid.uuid4()
        told = (
            "WITH task AS (INSERT INTO tasks VALUES (%s, %s, %s, %s) RETURNING id) "
            "INSERT INTO messages (sender, recipient, content) SELECT %s, %s, id FROM task"
        )
        await floor.run(told, identity, who, agent, description, who, agent)
        floor.wake(f"inbox:{agent}")
        return {"task_id": str(identity)}

    return server


def main(port: int) -> None:
    """Serve until a signal ends it."""
    app = build(Floor(os.environ[DATABASE], os.environ[BROKER])).http_app(path="/mcp", stateless_http=True)
    uvicorn.run(app, host="127.0.0.1", port=port, log_config=None, access_log=False, ws="none", server_header=False, timeout_keep_alive=90)


if __name__ == "__main__":
    main(int(sys.argv[1]))
