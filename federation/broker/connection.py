"""One STOMP connection: writes from any thread, receipts, heart-beats; knows nothing of kombu, and is of no use after a fork.

What was sent to a wildcard it hands to nobody: to ActiveMQ such a name is a destination, what is sent there reaches all who read what it fits, and
who may send there was not asked whether he may write to each of these.
"""

import contextlib
import logging
import os
import select
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable
from itertools import count
from time import monotonic

from federation.broker.destinations import is_wildcard
from federation.broker.dialing import Address, Dialed, wait_until_ready
from federation.broker.errors import ConfirmationMissing, ConnectionLost, ProtocolError, RequestRefused
from federation.broker.frames import HEARTBEAT, Frame, encode

logger = logging.getLogger(__name__)

READ_BYTES = 1 << 18
# In pieces, so that progress shows: TLS says nothing of a write before all of it is done.
WRITE_BYTES = 1 << 18
SECONDS_TO_WRITE = 30.0
# As long as a broker on a busy machine may stand still: without its receipt the last acknowledgements may be lost.
SECONDS_TO_PART = 5.0
# A broker on a busy machine sends its heart-beats late: where one a second was agreed, 2.2 s without one were seen.
LATE_S = 2.0

_QUICKACK = getattr(socket, "TCP_QUICKACK", None)
_WOULD_BLOCK = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class StompConnection:
    """A live connection; `inbox` holds the MESSAGE frames that nobody has taken yet."""

    def __init__(self, address: Address, dialed: Dialed) -> None:
        self.address = address
        self.inbox: deque[Frame] = deque()
        self.on_waiting: Callable[[], None] | None = None
        self._beat_out_s, self._beat_in_s = dialed.beat_out_s, dialed.beat_in_s
        # Seconds between heart-beats, the shorter of both ways, 0 for none.
        self.beat_s = min((beat for beat in (dialed.beat_out_s, dialed.beat_in_s) if beat), default=0.0)
        self._sock, self._decoder = dialed.sock, dialed.decoder
        # One TLS object must not be read and written at once; a plain socket may.
        self._tls = threading.Lock() if isinstance(dialed.sock, ssl.SSLSocket) else contextlib.nullcontext()
        self._pid = os.getpid()
        self._ids = count(1)
        self._writing = threading.Lock()
        # Entered as what it is: a Condition's own `with` is Python, and a signal's handler that raises in it leaves the lock behind.
        self._routing = threading.Lock()
        self._turn = threading.Condition(self._routing)
        self._reading = False
        self._answers: dict[str, Frame | None] = {}
        self._collected: dict[str, deque[Frame]] = {}
        self._sent_to_wildcards: deque[Frame] = deque()
        self._failure: Exception | None = None
        self._closed = False
        self.ended = threading.Event()
        self.beaten_beside = False
        self._last_sent = self._last_received = monotonic()
        self._route(dialed.early)

    @property
    def alive(self) -> bool:
        """Whether it is worth using, as far as is known without a look at the socket."""
        return not self._closed and self._failure is None and os.getpid() == self._pid

    @property
    def failed(self) -> bool:
        """Whether it was lost, and not closed by us."""
        return self._failure is not None and not self._closed and os.getpid() == self._pid

    def fileno(self) -> int:
        """The socket's descriptor, for an event loop."""
        return self._sock.fileno()

    def next_id(self) -> str:
        """An id for a receipt, subscription or transaction, unique in this connection."""
        return str(next(self._ids))

    # -- writing

    def send(self, data: bytes) -> None:
        """Write whole frames.

        Raises ConnectionLost.
        """
        self._check()
        with self._writing:
            unsent = memoryview(data)
            while unsent:
                unsent = unsent[self._write_some(unsent[:WRITE_BYTES]) :]
            self._last_sent = monotonic()

    def _write_some(self, data: memoryview) -> int:
        deadline = monotonic() + SECONDS_TO_WRITE
        while True:
            try:
                with self._tls:
                    return self._sock.send(data)
            except _WOULD_BLOCK as error:
                self._wait_to_write(deadline, select.POLLIN if isinstance(error, ssl.SSLWantReadError) else select.POLLIN | select.POLLOUT)
            except OSError as error:
                raise self._fail(f"{self.address} closed the connection while we wrote: {error}", error) from error

    def _wait_to_write(self, deadline: float, events: int) -> None:
        remaining = deadline - monotonic()
        if remaining <= 0:
            raise self._fail(f"{self.address} took no bytes for {SECONDS_TO_WRITE:g} s; look at its memory and store limits")
        ready = wait_until_ready(self._sock, events, remaining)
        if ready & select.POLLIN:
            # A broker that waits for us to read may not read from us.
            self.read(0)
            self.tell_waiting()

    def look_for_end(self) -> None:
        """Find out whether the peer is gone: a write on a half-closed socket succeeds and vanishes.

        Raises ConnectionLost.
        """
        self._check()
        if wait_until_ready(self._sock, select.POLLIN, 0):
            self.read(0)
            self.tell_waiting()

    def request(self, data: bytes, receipt: str, timeout_s: float) -> None:
        """Write frames of which one asks for `receipt`, and wait for it.

        Raises ConnectionLost, ConfirmationMissing after `timeout_s` seconds, RequestRefused if ActiveMQ answers with ERROR.
        """
        self.send(data)
        self.wait_for_receipt(receipt, timeout_s)

    def wait_for_receipt(self, receipt: str, timeout_s: float) -> None:
        """Wait for a receipt that frames already written ask for.

        Raises ConnectionLost, ConfirmationMissing after `timeout_s` seconds, RequestRefused if ActiveMQ answers with ERROR.
        """
        try:
            if not self.read(timeout_s, lambda: receipt in self._answers):
                raise self._fail_with(ConfirmationMissing(timeout_s, str(self.address)))
            answer = self._answers.pop(receipt)
        finally:
            self.tell_waiting()
        if answer is not None:
            raise RequestRefused(answer.headers.get("message", "no reason given"), answer.body.decode(errors="replace"))

    def put_back(self, frame: Frame) -> None:
        """Let a MESSAGE frame be delivered once more."""
        self.inbox.append(frame)
        self.tell_waiting()

    def tell_waiting(self) -> None:
        """Wake the event loop for frames in the inbox: it sees only the socket, and they have left it."""
        if self.inbox and self.on_waiting is not None:
            self.on_waiting()

    # -- reading

    def collect(self, subscription: str) -> deque[Frame]:
        """Keep the MESSAGE frames of one subscription out of the inbox, in the deque that is returned."""
        return self._collected.setdefault(subscription, deque())

    def stop_collecting(self, subscription: str) -> None:
        """Forget the deque of that subscription."""
        self._collected.pop(subscription, None)

    def read(self, timeout_s: float | None, done: Callable[[], bool] | None = None) -> bool:
        """Read once, or until `done()`, for at most `timeout_s` seconds; return whether it came to that.

        One thread reads at a time; another waits for what that one routes.
        Raises ConnectionLost.
        """
        # Before the lock: in a forked child it may be held by a thread that the child does not have.
        self._check_process()
        deadline = None if timeout_s is None else monotonic() + timeout_s
        with self._routing:
            while True:
                if done is not None and done():
                    return True
                self._check()
                remaining = None if deadline is None else max(0.0, deadline - monotonic())
                if self._reading:
                    if remaining == 0:
                        return False
                    self._turn.wait(remaining)
                else:
                    got = self._read_once(remaining)
                    if got and done is None:
                        return True
                if deadline is not None and monotonic() >= deadline:
                    return done is not None and done()

    def _read_once(self, timeout_s: float | None) -> bool:
        self._reading = True
        self._routing.release()
        frames: list[Frame] = []
        data = b""
        try:
            data = self._receive(timeout_s)
            if data:
                frames = self._decoder.feed(data)
        except ProtocolError as error:
            raise self._fail(f"{self.address} sent bytes that are no STOMP: {error}", error) from error
        finally:
            self._routing.acquire()
            self._reading = False
            self._route(frames)
            self._turn.notify_all()
        return bool(data)

    def _receive(self, timeout_s: float | None) -> bytes:
        while True:
            try:
                with self._tls:
                    data = self._sock.recv(READ_BYTES)
                    if isinstance(self._sock, ssl.SSLSocket):
                        # Decrypted bytes in the TLS object do not wake a poller.
                        while pending := self._sock.pending():
                            data += self._sock.recv(pending)
            except _WOULD_BLOCK as error:
                events = select.POLLOUT if isinstance(error, ssl.SSLWantWriteError) else select.POLLIN
                if timeout_s == 0 or not wait_until_ready(self._sock, events, timeout_s):
                    return b""
                timeout_s = 0
                continue
            except OSError as error:
                raise self._fail(f"{self.address} closed the connection: {error}", error) from error
            if not data:
                raise self._fail(f"{self.address} closed the connection")
            if _QUICKACK is not None:
                # ActiveMQ holds a second small frame back until the first is acknowledged, and Linux takes 40 ms for that.
                # The option lasts for one read only.
                self._sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            self._last_received = monotonic()
            return data

    def _route(self, frames: list[Frame]) -> None:
        for frame in frames:
            match frame.command:
                case "MESSAGE" if is_wildcard(frame.headers.get("destination", "")):
                    self._sent_to_wildcards.append(frame)
                case "MESSAGE":
                    self._collected.get(frame.headers.get("subscription", ""), self.inbox).append(frame)
                case "RECEIPT":
                    self._answers[frame.headers.get("receipt-id", "")] = None
                case "ERROR" if "receipt-id" in frame.headers:
                    self._answers[frame.headers["receipt-id"]] = frame
                case "ERROR":
                    reason = frame.headers.get("message", "no reason given")
                    self._fail(f"{self.address} ended the connection with an error: {reason}")
                case _:
                    pass

    # -- heart-beats and the end

    def beat(self, rate: float = 2.0) -> None:
        """Send a heart-beat if one is due, and see that the peer's came.

        Raises ConnectionLost if nothing came for two intervals and a little more.
        """
        self._check()
        self._refuse()
        now = monotonic()
        if self._beat_out_s and now - self._last_sent >= self._beat_out_s / rate:
            self.send(HEARTBEAT)
        if self._beat_in_s and now - self._last_received > 2 * self._beat_in_s + LATE_S:
            # What already lies in the socket counts: perhaps it was we who slept.
            if not self.read(0):
                raise self._fail(
                    f"{self.address} has been silent for {now - self._last_received:.1f} s; it agreed to a heart-beat each {self._beat_in_s:g} s"
                )
            self.tell_waiting()

    def _refuse(self) -> None:
        """Settle what nobody gets; not while frames are read, because a write may wait for that."""
        while self._sent_to_wildcards:
            headers = self._sent_to_wildcards.popleft().headers
            logger.warning("a message that was sent to the wildcard %s is not taken", headers["destination"])
            if "ack" in headers:
                self.send(encode("ACK", {"id": headers["ack"]}))

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ConnectionLost("this connection belongs to the parent process; open one of this process's own")

    def _check(self) -> None:
        self._check_process()
        if self._failure is not None:
            raise ConnectionLost(str(self._failure)) from self._failure
        if self._closed:
            raise ConnectionLost(f"the connection to {self.address} was closed by us; connect again")

    def give_up(self, reason: ConnectionLost) -> None:
        """Let nothing more be sent or received, for that reason; takes no lock."""
        self._fail_with(reason)

    def _fail(self, text: str, cause: BaseException | None = None) -> ConnectionLost:
        error = ConnectionLost(text)
        error.__cause__ = cause
        return self._fail_with(error)

    def _fail_with(self, error: ConnectionLost) -> ConnectionLost:
        if self._failure is None:
            self._failure = error
            self.ended.set()
            # Not closed yet: the event loop's thread must be woken by its own descriptor, and close it.
            self._shut_down()
        return error

    def _shut_down(self) -> None:
        # Not SSLSocket's own method: it drops the encryption first, and what another thread then writes would go out in the clear.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Part in good order if the peer is there; in a forked child only let go of the descriptor."""
        if self._closed:
            return
        if self.alive:
            receipt = self.next_id()
            # Without the receipt a close with unread bytes resets the connection, and the last acks with it.
            with contextlib.suppress(ConnectionLost, RequestRefused):
                self.on_waiting = None
                self.request(encode("DISCONNECT", {"receipt": receipt}), receipt, SECONDS_TO_PART)
        self._closed = True
        self.ended.set()
        if os.getpid() != self._pid:
            # The parent's locks may be held for ever in this copy, and the connection is the parent's.
            self._sock.close()
            return
        self._shut_down()
        # A thread that still writes is woken by that, and must not write into whatever gets this descriptor next.
        with self._writing, self._tls:
            self._sock.close()
