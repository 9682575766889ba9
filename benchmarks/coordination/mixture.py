"""What many agents do at once: words, states, claims, work handed out and done, votes; says what of all that they were told does not fit together."""

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from benchmarks.coordination.seat import Seat

# How often each comes; some are several calls.
WEIGHTS = {"talk": 45, "tell": 15, "look": 5, "hold": 20, "work": 12, "vote": 3}
# Few enough that agents come into each other's way.
RESOURCES = 40
CIRCLE, CIRCLES = 5, 20
_SEED = 20261
_WAIT_S = 60.0
_ENDS_WITHIN_S = 300.0


class Mixture:
    """Agents at one door, each of which also waits for its inbox."""

    def __init__(self, seats: Mapping[str, Seat], roles: Mapping[str, str]) -> None:
        self._seats, self._dice = seats, random.Random(_SEED)
        self._leads = [name for name, role in roles.items() if role == "lead"]
        self._names = list(seats)
        self._circles = [f"circle-{number}" for number in range(CIRCLES)]
        self._members: dict[str, list[str]] = {}
        self._expected: Counter[tuple[str, str]] = Counter()
        self._received: Counter[tuple[str, str]] = Counter()
        self._cursors: dict[str, int] = dict.fromkeys(self._names, 0)
        self._gaps: list[str] = []
        self._holders: dict[str, str] = {}
        self._asking: dict[str, set[str]] = {}
        self._tokens: dict[str, int] = {}
        self._overlaps: list[str] = []
        self._listening: list[asyncio.Task[None]] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._over = False
        self.calls = self.calls_in_time = self.sent = self.won = 0
        self.errors: list[str] = []
        self.took_ms: dict[str, list[float]] = {}

    async def begin(self) -> None:
        """Open the circles, and let each agent wait for its inbox."""
        for circle in self._circles:
            first, *others = self._members[circle] = self._dice.sample(self._names, CIRCLE)
            for other in others:
                # Naming an agent makes it a member.
                await self._say(first, other, conversation_id=circle, to=other)
        self._listening = [asyncio.create_task(self._listen(name)) for name in self._names]

    async def go_on(self, *, rate: float, seconds: float) -> None:
        """Begin what is to be done so that so many calls a second are made, however late the answers are; return when the time is over."""
        doings: dict[str, tuple[Callable[[], Awaitable[None]], int]] = {
            "talk": (self._talk, 1),
            "tell": (self._tell, 1),
            "look": (self._look, 1),
            "hold": (self._hold, 2),
            "work": (self._work, 3),
            "vote": (self._vote, 7),
        }
        self.calls = 0
        began, due = time.monotonic(), 0.0
        while due < seconds and time.monotonic() < began + seconds:
            # Where the door does not keep up; an agent does one thing at a time.
            while len(self._under_way) >= len(self._names):
                await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            [chosen] = self._dice.choices(list(WEIGHTS), list(WEIGHTS.values()))
            do, calls = doings[chosen]
            await asyncio.sleep(max(0.0, began + due - time.monotonic()))
            due += calls / rate
            doing = asyncio.create_task(self._noted(do))
            self._under_way.add(doing)
            doing.add_done_callback(self._under_way.discard)
        await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
        self.calls_in_time = self.calls

    async def end(self) -> None:
        """Wait until all is done and everybody has what was sent to him."""
        deadline = time.monotonic() + _ENDS_WITHIN_S
        while (self._under_way or self._expected - self._received) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        self._over = True
        for listening in self._listening:
            listening.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)

    def flaws(self) -> list[str]:
        """Say what does not fit together of what agents were told."""
        lost, doubled = self._expected - self._received, self._received - self._expected
        return [
            *(f"{to} never received {content}" for to, content in lost),
            *(f"{to} received {content} {1 + times} times" for (to, content), times in doubled.items()),
            *self._gaps,
            *self._overlaps,
            *(f"still under way in the end: {doing}" for doing in self._under_way),
        ]

    async def _noted(self, do: Callable[[], Awaitable[None]]) -> None:
        try:
            await do()
        except Exception as error:  # noqa: BLE001 - whatever an agent would see
            self.errors.append(f"{type(error).__name__}: {error}")

    async def _call(self, who: str, tool: str, **arguments: Any) -> dict[str, Any]:
        began = time.perf_counter()
        answer = await self._seats[who].call(tool, **arguments)
        self.took_ms.setdefault(tool, []).append((time.perf_counter() - began) * 1000)
        self.calls += 1
        return answer

    async def _listen(self, name: str) -> None:
        while not self._over:
            try:
                found = await self._seats[name].call("federation_inbox", after=self._cursors[name], wait_s=_WAIT_S)
            except Exception as error:  # noqa: BLE001 - as above
                self.errors.append(f"{name} waits: {type(error).__name__}: {error}")
                await asyncio.sleep(1)
                continue
            for message in found["messages"]:
                if message["cursor"] != self._cursors[name] + 1:
                    self._gaps.append(f"behind {self._cursors[name]} {name} got {message['cursor']}")
                self._cursors[name] = message["cursor"]
                if message["message_type"] == "chat":
                    self._received[name, message["content"]] += 1

    async def _say(self, who: str, *readers: str, **address: str) -> None:
        content = uuid.uuid4().hex
        await self._call(who, "federation_send", content=content, **address)
        self.sent += 1
        for reader in readers:
            self._expected[reader, content] += 1

    async def _talk(self) -> None:
        if self._dice.random() < 0.2:
            circle = self._dice.choice(self._circles)
            who = self._dice.choice(self._members[circle])
            await self._say(who, *(each for each in self._members[circle] if each != who), conversation_id=circle)
        else:
            who, to = self._dice.sample(self._names, 2)
            await self._say(who, to, to=to)

    async def _tell(self) -> None:
        await self._call(self._dice.choice(self._names), "federation_update_state", summary=f"step {self.calls}")

    async def _look(self) -> None:
        await self._call(self._dice.choice(self._names), "federation_pulse", form="table")

    async def _hold(self) -> None:
        resource = f"bench:{self._dice.randrange(RESOURCES)}"
        # Who holds it would extend it, and give it back twice.
        who = self._dice.choice([name for name in self._names if name not in self._asking.get(resource, ())])
        self._asking.setdefault(resource, set()).add(who)
        try:
            await self._claim(who, resource)
        finally:
            self._asking[resource].discard(who)

    async def _claim(self, who: str, resource: str) -> None:
        answer = await self._call(who, "federation_claim", resource=resource)
        if not answer["claimed"]:
            await self._call(who, "federation_claims", resource=resource)
            return
        self.won += 1
        if (other := self._holders.get(resource)) is not None:
            self._overlaps.append(f"{who} and {other} hold {resource} at once")
        if answer["fencing_token"] <= self._tokens.get(resource, 0):
            self._overlaps.append(f"{resource}: token {answer['fencing_token']} after {self._tokens[resource]}")
        self._holders[resource], self._tokens[resource] = who, answer["fencing_token"]
        await asyncio.sleep(self._dice.random() / 2)
        # Before the call, because another may have it before the answer is here.
        del self._holders[resource]
        if not (await self._call(who, "federation_release", resource=resource))["released"]:
            self._overlaps.append(f"{who} could not give back {resource}")

    async def _work(self) -> None:
        who = self._dice.choice(self._leads)
        to = self._dice.choice([name for name in self._names if name != who])
        task = (await self._call(who, "federation_delegate", description="Profile the auth module.", agent=to))["task_id"]
        taken = await self._call(to, "federation_claim_task", task_id=task)
        if not taken["claimed"]:
            self._overlaps.append(f"{to} did not get task {task}, which is for it alone")
            return
        await self._call(to, "federation_complete_task", task_id=task, fencing_token=taken["fencing_token"], result={"leaks": 0})

    async def _vote(self) -> None:
        voters = self._dice.sample(self._leads, 3)
        asked = await self._call(voters[0], "federation_consensus_request", question="Which?", options=["OAuth2", "JWT"], voters=voters, early=False)
        vote = asked["consensus_id"]
        for voter in voters:
            await self._call(voter, "federation_consensus_acknowledge", consensus_id=vote, options_hash=asked["options_hash"])
        state = [await self._call(voter, "federation_consensus_respond", consensus_id=vote, response="JWT") for voter in voters][-1]
        if (state["state"], state["winner"]) != ("decided", "JWT"):
            self._overlaps.append(f"vote {vote}, in which all are for JWT, is {state['state']} for {state['winner']}")
