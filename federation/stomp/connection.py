"""One client's connection and the one to ActiveMQ that goes with it: both end together, and neither is read faster than the other is written.

What is passed on is made anew from what was read, so that ActiveMQ reads the same as this door did. Heart-beats go from end to end.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from federation.broker.errors import ProtocolError
from federation.broker.frames import HEARTBEAT, Decoder, Frame, encode
from federation.errors import FederationError
from federation.stomp.pace import Pace
from federation.stomp.passing import MOST_BODY_BYTES, MOST_HEAD_BYTES, Login, Passage, presented
from federation.stomp.upstream import CHUNK_BYTES, Opened, Upstream

logger = logging.getLogger(__name__)

LOGIN_WITHIN_S = 10.0
# What a client does not read for so long, of which so much is waiting, it will not.
SLOW_S, UNSENT_BYTES = 30.0, 256 * 1024
# ActiveMQ makes who writes wait while its store is full, and answers then.
BROKER_SLOW_S = 60.0
# An answer that is refused reaches its reader only if what he has written is read.
PARTS_WITHIN_S = 2.0

# Says who has logged in and how fast he may speak, or raises why not.
Admit = Callable[[Login], Awaitable[tuple[str, Pace]]]


class _Ended(Exception):
    """This connection is to end; its text is told to the client, if there is any."""


class Connection:
    """A client, known or not yet; `run` is its life."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: Upstream, admit: Admit) -> None:
        self._reader, self._writer, self._upstream, self._admit = reader, writer, upstream, admit
        self._decoder = Decoder(MOST_BODY_BYTES, max_head_bytes=MOST_HEAD_BYTES)
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        # Of the frame that is looked at, for an ERROR to name.
        self._receipt: str | None = None
        self._leaving = False
        # Since when more is awaited of the client, None: what it has said is being passed on.
        self._silent_since: float | None = None
        self.agent: str | None = None
        writer.transport.set_write_buffer_limits(UNSENT_BYTES)

    def end(self, why: str) -> None:
        """End it, and tell the client why."""
        if not self._end.done():
            self._end.set_result(why)

    async def run(self) -> None:
        """Serve the client until either side ends, or somebody calls `end`."""
        why = ""
        try:
            await self._until_the_end(self._serve())
        except (_Ended, FederationError, ProtocolError) as error:
            why = str(error)
        except OSError as error:
            logger.debug("stomp.broken", extra={"agent": self.agent, "reason": str(error)})
        except Exception:  # that client is told, and the others have nothing to do with it
            logger.exception("stomp.failed", extra={"agent": self.agent})
            why = "a fault of this door, which its log tells the operator"
        finally:
            if why:
                logger.info("stomp.ended", extra={"agent": self.agent, "reason": why})
                self._tell(Frame("ERROR", {"message": why, **({"receipt-id": self._receipt} if self._receipt else {})}))
            await self._part()

    async def _until_the_end(self, *work: Awaitable[None]) -> None:
        """Do these until the first of them is done, or somebody calls `end`. Raises what that one raises."""
        tasks: list[asyncio.Future[None]] = [asyncio.ensure_future(one) for one in work]
        try:
            waited: list[asyncio.Future[Any]] = [*tasks, self._end]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            if self._end.done():
                raise _Ended(self._end.result())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self) -> None:
        try:
            async with asyncio.timeout(LOGIN_WITHIN_S):
                first, *early = await self._first_frames()
        except TimeoutError as error:
            raise _Ended(f"nothing was said within {LOGIN_WITHIN_S:g} s; connect again") from error
        login = presented(first)
        self.agent, pace = await self._admit(login)
        opened = await self._upstream.open(login.beats)
        try:
            opened.writer.transport.set_write_buffer_limits(UNSENT_BYTES)
            self._tell(Frame("CONNECTED", {"version": "1.2", "server": "federation", "heart-beat": opened.beats}))
            for frame in opened.early:
                self._answer(frame)
            await self._until_the_end(self._speak(opened, Passage(self.agent), pace, early), self._hear(opened, login.beats[0] / 1000))
        finally:
            await _closed(opened.writer)

    async def _first_frames(self) -> list[Frame]:
        while data := await self._reader.read(CHUNK_BYTES):
            if frames := self._decoder.feed(data):
                return frames
            if self._decoder.buffered > MOST_HEAD_BYTES:
                raise _Ended(f"a CONNECT of more than {MOST_HEAD_BYTES} bytes")
        raise ConnectionResetError("the client has gone")

    async def _speak(self, opened: Opened, passage: Passage, pace: Pace, frames: list[Frame]) -> None:
        """Pass on what the client says, until it has ended."""
        broker = opened.writer
        while not self._leaving:
            for frame in frames:
                self._receipt = frame.headers.get("receipt")
                self._leaving = frame.command == "DISCONNECT"
                broker.write(encode(*passage.passed(frame)))
                self._receipt = None
                await _written(broker, BROKER_SLOW_S, "ActiveMQ takes nothing more now; connect again in a while")
                if self._leaving:
                    break
                await pace.frame(frame.command)
            if not self._leaving:
                self._silent_since = time.monotonic()
                data = await self._reader.read(CHUNK_BYTES)
                self._silent_since = None
                if not data:
                    return
                frames = self._decoder.feed(data)
                if not frames:
                    # A heart-beat, or the sign of life that a piece of a long frame is.
                    broker.write(HEARTBEAT)
                    await _written(broker, BROKER_SLOW_S, "ActiveMQ takes nothing more now; connect again in a while")
                await pace.bytes(len(data))
        # ActiveMQ tells that it has done all, if it was asked to, and ends.
        await asyncio.sleep(PARTS_WITHIN_S)

    async def _hear(self, opened: Opened, promised_s: float) -> None:
        """Pass on what ActiveMQ says, until it has ended. It ends without a word if a client does not beat as often as he promised, 0 for never."""
        while data := await _read(opened.reader):
            frames = opened.decoder.feed(data)
            for frame in frames:
                self._answer(frame)
            if not frames:
                self._writer.write(HEARTBEAT)
            await _written(self._writer, SLOW_S, f"you have read too little for {SLOW_S:g} s; connect again, what you have not settled comes again")
        if self._leaving:
            return
        if promised_s and self._silent_since is not None and (silent_s := time.monotonic() - self._silent_since) >= promised_s:
            raise _Ended(f"you promised a heart-beat every {promised_s:g} s, and were silent for {silent_s:.1f} s; connect again")
        raise _Ended("ActiveMQ has ended the connection; connect again in a while")

    def _answer(self, frame: Frame) -> None:
        if frame.command == "ERROR":
            self._receipt = frame.headers.get("receipt-id")
            # And not the stack of calls in its body.
            raise _Ended(frame.headers.get("message", "ActiveMQ refuses it").partition("\n")[0])
        self._tell(frame)

    def _tell(self, frame: Frame) -> None:
        if not self._writer.is_closing():
            self._writer.write(encode(*frame))

    async def _part(self) -> None:
        """End the client's connection when it has read what was said last, or soon."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(PARTS_WITHIN_S):
                await self._writer.drain()
                # TLS says farewell itself.
                if self._writer.can_write_eof():
                    self._writer.write_eof()
                    while await self._reader.read(CHUNK_BYTES):
                        pass
        await _closed(self._writer)


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Return what comes next, nothing when the other side has ended, in good order or not."""
    try:
        return await reader.read(CHUNK_BYTES)
    except OSError:
        return b""


async def _written(writer: asyncio.StreamWriter, within_s: float, otherwise: str) -> None:
    try:
        async with asyncio.timeout(within_s):
            await writer.drain()
    except TimeoutError as error:
        raise _Ended(otherwise) from error


async def _closed(writer: asyncio.StreamWriter) -> None:
    """End a connection when all is written, or soon."""
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(PARTS_WITHIN_S):
            await writer.wait_closed()
    writer.transport.abort()
