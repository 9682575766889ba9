"""Two agents that were given the list of tools and no document do a piece of work together, in a whole federation."""

from collections.abc import Iterator

import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from benchmarks.coordination.house import House, broker, federation
from benchmarks.running import running
from tests.integration.coordination.newcomer import Newcomer

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """A federation with one node, and nobody in it but these two."""
    with running() as here, broker(here) as activemq, federation(here, activemq, {"nora": "lead", "tom": "developer"}) as made:
        yield made


def seat(house: House, name: str) -> Client[StreamableHttpTransport]:
    return Client(StreamableHttpTransport(house.url, auth=house.tokens[name]))


async def test_five_steps_are_found_in_the_list_of_tools_alone(house: House) -> None:
    async with seat(house, "nora") as at_nora, seat(house, "tom") as at_tom:
        nora, tom = Newcomer(at_nora), Newcomer(at_tom)
        for newcomer in (nora, tom):
            await newcomer.read_the_list()
        here = await nora.come_to("See what everybody is doing")
        [other] = [row["name"] for row in here["rows"] if row["kind"] == "agent" and row["name"] != "nora"]
        await nora.come_to("Hand out work", description="Count the leaks of the auth module.", agent=other)
        # He is told nothing but what he is to come to.
        await tom.come_to("Complete a task", result={"leaks": 0})
        outcome = await nora.come_to("What came of a task")
    assert nora.steps == ["federation_pulse", "federation_delegate", "federation_task_result"]
    assert tom.steps[-2:] == ["federation_claim_task", "federation_complete_task"]
    assert "federation_inbox" in tom.steps
    assert (outcome["finished"], outcome["state"], outcome["result"], outcome["done_by"]) == (True, "completed", {"leaks": 0}, "tom")


async def test_a_newcomer_without_work_learns_that_there_is_none(house: House) -> None:
    async with seat(house, "nora") as at_nora:
        nora = Newcomer(at_nora)
        await nora.read_the_list()
        with pytest.raises(LookupError, match="wants task_id, and no tool tells it"):
            await nora.come_to("Complete a task", result={"leaks": 0})
