"""The Great Desync cannot come again: votes and tasks have one source of truth, and whoever reads them anywhere reads the same."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from federation.transaction import Transactions, connect

pytestmark = pytest.mark.anyio
VOTERS = {"ada": "OAuth2", "bob": "JWT", "dan": "OAuth2"}


@pytest.fixture
def doors(postgres: Any, database: str, transactions: Transactions, tokens: dict[str, str], serve: Any) -> Iterator[tuple[Any, Any]]:
    """Two front doors of one database that share nothing else: neither connections nor what they remember."""
    url = postgres.as_role("federation_app", database)
    other = Transactions(connect(url), transactions._publisher, service=transactions.service)
    with ExitStack() as both:
        both.callback(other.engine.dispose)
        yield both.enter_context(serve(transactions, url, tokens)), both.enter_context(serve(other, url, tokens))


async def told(client: Any, tool: str, **arguments: Any) -> Any:
    return (await client.call_tool(tool, arguments)).structured_content


async def test_two_readers_agree_on_votes_and_tasks_whoever_changes_them_wherever(doors: tuple[Any, Any], postgres: Any, database: str) -> None:
    one, two = doors
    auditor = postgres.as_role("federation_auditor", database)

    def stored(query: str) -> Any:
        with psycopg.connect(auditor) as connection:
            return connection.execute(query).fetchall()  # type: ignore[arg-type]  # text of this file

    async with one.client("eve") as here, two.client("eve") as there, one.client("ada") as ada, two.client("bob") as bob:

        async def both(tool: str, **arguments: Any) -> Any:
            """What two readers are told at once, which is the same."""
            first, second = await asyncio.gather(told(here, tool, **arguments), told(there, tool, **arguments))
            assert first == second
            return first

        vote = {"consensus_id": "auth-decision"}
        asked = await told(ada, "federation_consensus_request", question="Which?", options=["OAuth2", "JWT"], voters=list(VOTERS), shown=True, **vote)
        async with two.client("dan") as dan:
            for count, (voter, choice) in enumerate(zip((ada, bob, dan), VOTERS.values(), strict=True), 1):
                await told(voter, "federation_consensus_acknowledge", options_hash=asked["options_hash"], **vote)
                await told(voter, "federation_consensus_respond", response=choice, **vote)
                seen = await both("federation_consensus_results", **vote)
                assert stored("SELECT count(*) FROM ballots") == [(count,)]
        assert (seen["winner"], seen["state"]) == ("OAuth2", "decided")

        await told(bob, "federation_delegate", description="Profile the memory", task_id="memory-profile")
        assert (await both("federation_task_status", task_id="memory-profile"))["state"] == "pending"
        # Eve at the other door is told at once.
        token = (await told(ada, "federation_claim_task", task_id="memory-profile"))["fencing_token"]
        held = await both("federation_task_status", task_id="memory-profile")
        assert held["assigned_to"] == "ada"
        waiting = [asyncio.ensure_future(told(each, "federation_task_result", task_id="memory-profile", wait_s=60)) for each in (here, there)]
        for door in doors:
            await door.heard(f"task:{held['task_id']}")
        await told(ada, "federation_complete_task", task_id="memory-profile", fencing_token=token, result={"leaks": 1})
        first, second = await asyncio.gather(*waiting)
        assert first == second == await both("federation_task_result", task_id="memory-profile")
        assert (first["state"], first["result"], first["done_by"]) == ("completed", {"leaks": 1}, "ada")
        assert stored("SELECT status, assigned_to FROM agent_tasks") == [("completed", "ada")]


async def test_what_many_change_at_both_doors_at_once_reads_alike_at_both(doors: tuple[Any, Any]) -> None:
    one, two = doors
    async with one.client("ada") as ada, two.client("bob") as bob:

        async def hand_out(client: Any, number: int) -> None:
            task = await told(client, "federation_delegate", description=f"Part {number}", conversation_id=None, task_id=f"part-{number}")
            if number % 3 == 0:
                await told(client, "federation_cancel_task", task_id=task["task_id"], reason="not wanted")

        await asyncio.gather(*(hand_out((ada, bob)[number % 2], number) for number in range(24)))
        for number in range(24):
            at_one, at_two = await asyncio.gather(*(told(each, "federation_task_status", task_id=f"part-{number}") for each in (ada, bob)))
            assert at_one == at_two
            assert at_one["state"] == ("cancelled" if number % 3 == 0 else "pending")
