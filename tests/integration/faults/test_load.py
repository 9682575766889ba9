"""What a load of the fault tests tells of itself when it is late."""

import asyncio
import re

from federation.local.ports import LOOPBACK
from tests.integration.faults.load import Seat


def test_who_waits_for_a_door_that_is_silent_tells_in_which_call() -> None:
    async def story() -> tuple[str, str]:
        asked = asyncio.Event()

        async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            asked.set()
            await reader.read()
            writer.close()

        async with await asyncio.start_server(stay_silent, LOOPBACK, 0) as door:
            port = door.sockets[0].getsockname()[1]
            seat = Seat(f"http://{LOOPBACK}:{port}/mcp", "no token")
            call = asyncio.create_task(seat.call("federation_pulse"))
            await asked.wait()
            before = str(seat.calls)
            call.cancel()
            await asyncio.wait([call])
        return before, str(seat.calls)

    before, after = asyncio.run(story())
    assert re.fullmatch(r"stands for \d+\.\d s in connecting", before)
    assert re.fullmatch(r"connecting: \d+\.\d s in vain \(CancelledError\(.*\)\); in no call", after)
