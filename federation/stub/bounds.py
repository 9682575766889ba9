"""How much a front door may answer: what comes is counted, and it comes as it is, so that a little is not unpacked into much."""

from collections.abc import AsyncIterator

import httpx2

LONGEST_BYTES = 16 * 2**20
# What is asked for.
PLAIN = {"accept-encoding": "identity"}


class _Counted(httpx2.AsyncByteStream):
    """A body that breaks off where it is too long."""

    def __init__(self, body: httpx2.AsyncByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = LONGEST_BYTES
        async for part in self._body:
            left -= len(part)
            if left < 0:
                raise httpx2.ReadError(f"its answer is longer than {LONGEST_BYTES} bytes")
            yield part

    async def aclose(self) -> None:
        """Let go of the connection."""
        await self._body.aclose()


def bound(response: httpx2.Response) -> None:
    """Have an answer counted while it is read. Raises ReadError for one that is packed."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise httpx2.ReadError("its answer is compressed, although it was asked for as it is")
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _Counted(response.stream)
