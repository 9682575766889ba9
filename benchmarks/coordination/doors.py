"""The same calls at the federation's front door and at the floor's server, under one set of names; measures nothing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.coordination.seat import Line, Seat
from benchmarks.core.database import Nobody
from federation.services import consensus
from federation.services.electorates import Asked
from federation.transaction import Transactions, connect

# How long a call waits for news; none here takes so long.
WAIT_S = 100.0
_OPTIONS = ["OAuth2", "JWT"]


@dataclass(frozen=True)
class News:
    """What an inbox had: the text of each message and the task that it tells of, and the cursor behind it."""

    contents: Sequence[str]
    tasks: Sequence[str | None]
    cursor: int


class Door(Protocol):
    """Where agents call."""

    topic: str

    async def send(self, who: str, to: str, content: str) -> None:
        """Send a message to one agent."""
        ...

    async def inbox(self, who: str, cursor: int) -> News:
        """Wait for messages behind a cursor."""
        ...

    async def end_of_inbox(self, who: str) -> int:
        """Return the cursor behind all that there is."""
        ...

    async def update_state(self, who: str, summary: str) -> None:
        """Say what one does."""
        ...

    async def pulse(self, who: str, cursor: Any) -> tuple[str, Any]:
        """Wait for a change behind a cursor; without one return what there is. Return the states as a table, and the cursor."""
        ...

    def summary(self, body: str) -> str | None:
        """Return what a message of the topic says that somebody does."""
        ...

    async def claim(self, who: str, resource: str) -> bool:
        """Claim something; return whether it was won."""
        ...

    async def prepare_vote(self, voters: Sequence[str]) -> str:
        """Return a vote in which all of these may vote now."""
        ...

    async def vote(self, who: str, vote: str) -> None:
        """Vote."""
        ...

    async def delegate(self, who: str, to: str, description: str) -> None:
        """Hand out work to an agent."""
        ...

    async def claim_task(self, who: str, task: str) -> bool:
        """Take a task; return whether it was won."""
        ...


class Federation:
    """Ours."""

    topic = "/topic/federation.events.agent.state_updated"

    def __init__(self, line: Line, tokens: Mapping[str, str], database_url: str) -> None:
        self._seats = {name: Seat(line, name, token) for name, token in tokens.items()}
        self._transactions = Transactions(connect(database_url), Nobody())

    async def send(self, who: str, to: str, content: str) -> None:
        await self._seats[who].call("federation_send", content=content, to=to)

    async def inbox(self, who: str, cursor: int) -> News:
        return _news(await self._seats[who].call("federation_inbox", after=cursor, wait_s=WAIT_S))

    async def end_of_inbox(self, who: str) -> int:
        cursor = None
        while True:
            found = await self._seats[who].call("federation_inbox", **({} if cursor is None else {"after": cursor}), limit=200)
            cursor = int(found["cursor"])
            if not found["more"]:
                return cursor

    async def update_state(self, who: str, summary: str) -> None:
        await self._seats[who].call("federation_update_state", summary=summary)

    async def pulse(self, who: str, cursor: Any) -> tuple[str, Any]:
        since = {} if cursor is None else {"after": cursor, "wait_s": WAIT_S}
        found = await self._seats[who].call("federation_pulse", form="table", **since)
        return found["table"], found["cursor"]

    def summary(self, body: str) -> str | None:
        told: str | None = json.loads(body)["payload"].get("summary")
        return told

    async def claim(self, who: str, resource: str) -> bool:
        return bool((await self._seats[who].call("federation_claim", resource=f"bench:{resource}"))["claimed"])

    async def prepare_vote(self, voters: Sequence[str]) -> str:
        # Not over MCP: to put it to the vote and to acknowledge it is not what is measured.
        asked = Asked(question="Which?", options=_OPTIONS, voters=voters, early=False, timeout_s=3600)
        with self._transactions.begin(voters[0]) as session:
            vote = consensus.request(session, asked)
            identity, digest = str(vote.id), vote.options_hash
        for voter in voters:
            with self._transactions.begin(voter) as session:
                consensus.acknowledge(session, identity, digest)
        return identity

    async def vote(self, who: str, vote: str) -> None:
        await self._seats[who].call("federation_consensus_respond", consensus_id=vote, response=_OPTIONS[0])

    async def delegate(self, who: str, to: str, description: str) -> None:
        await self._seats[who].call("federation_delegate", description=description, agent=to)

    async def claim_task(self, who: str, task: str) -> bool:
        return bool((await self._seats[who].call("federation_claim_task", task_id=task))["claimed"])


def _news(found: Mapping[str, Any]) -> News:
    messages = found["messages"]
    tasks = [(message["data"] or {}).get("task_id") for message in messages]
    return News([message["content"] for message in messages], tasks, int(found["cursor"]))


class Floor:
    """The bare one, which believes who says that he calls."""

    topic = "/topic/floor.states"

    def __init__(self, line: Line) -> None:
        self._seat = Seat(line, "anybody", "none")

    async def send(self, who: str, to: str, content: str) -> None:
        await self._seat.call("send", who=who, content=content, to=to)

    async def inbox(self, who: str, cursor: int) -> News:
        found = await self._seat.call("inbox", who=who, after=cursor, wait_s=WAIT_S)
        contents = [message["content"] for message in found["messages"]]
        return News(contents, contents, int(found["cursor"]))

    async def end_of_inbox(self, who: str) -> int:
        return int((await self._seat.call("end_of_inbox", who=who))["cursor"])

    async def update_state(self, who: str, summary: str) -> None:
        await self._seat.call("update_state", who=who, summary=summary)

    async def pulse(self, who: str, cursor: Any) -> tuple[str, Any]:
        found = await self._seat.call("pulse", after=-1 if cursor is None else cursor, wait_s=WAIT_S)
        return found["table"], found["cursor"]

    def summary(self, body: str) -> str | None:
        return body

    async def claim(self, who: str, resource: str) -> bool:
        return bool((await self._seat.call("claim", who=who, resource=resource))["claimed"])

    async def prepare_vote(self, voters: Sequence[str]) -> str:
        return str((await self._seat.call("open_vote", voters=len(voters)))["vote"])

    async def vote(self, who: str, vote: str) -> None:
        await self._seat.call("vote", who=who, vote=vote, response=_OPTIONS[0])

    async def delegate(self, who: str, to: str, description: str) -> None:
        await self._seat.call("delegate", who=who, description=description, agent=to)

    async def claim_task(self, who: str, task: str) -> bool:
        return bool((await self._seat.call("claim", who=who, resource=task))["claimed"])
