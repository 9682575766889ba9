"""What of STOMP 1.2 an agent may say to ActiveMQ: takes frames apart and makes new ones of what is named here; opens no socket.

Nothing is passed on because nobody thought of it: destinations are compared as they are written, headers are those of a list.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from federation.broker.frames import Frame
from federation.errors import InvalidInput, Refused
from federation.security.claimed_senders import claims_sender
from federation.services.feeds import BROADCAST, FROM, queue_of
from federation.services.storable import LONGEST_TEXT

# Of a head that says nothing needless; ActiveMQ takes 10 kB a header.
MOST_HEAD_BYTES = 16 * 1024
LONGEST_VALUE, MOST_HEADERS = 1000, 50
# A text and what it says for programs, each character of which JSON may write in twelve, and a statement.
MOST_BODY_BYTES = 2 * 12 * LONGEST_TEXT + 64 * 1024
MOST_SUBSCRIPTIONS = 8
# Of its queue, on their way to a client that has not settled them.
PREFETCH = "100"
# ActiveMQ counts in 31 bits, and would send as often as it is asked to.
LEAST_BEAT_MS, MOST_BEAT_MS = 1000, 2**31 - 1

_VERSION = "1.2"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# What ActiveMQ, or another broker, does something for: who writes that wants it, and must not think that he has it.
_ACTED_UPON = re.compile(
    r"selector|transaction|reply-to|transformation.*|browser|no-local|exclusive|client-id|durable.*|(.*[-_.])?subscription-?name"
    r"|activemq[-_.].*|amq_.*|jms.*",
    re.IGNORECASE,
)
# What the federation reads of a message whose body is plain text (`delivery.spoken`).
_SAID = ("to", "conversation", "in-reply-to", "federation-id")
_PASSED: Mapping[str, tuple[str, ...]] = {
    "SEND": ("destination", "receipt", "content-type", "persistent", "expires", *_SAID),
    "SUBSCRIBE": ("destination", "id", "ack", "receipt"),
    "UNSUBSCRIBE": ("id", "receipt"),
    "ACK": ("id", "receipt"),
    "NACK": ("id", "receipt"),
    "DISCONNECT": ("receipt",),
}
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "SEND": ("destination",),
    "SUBSCRIBE": ("destination", "id"),
    "UNSUBSCRIBE": ("id",),
    "ACK": ("id",),
    "NACK": ("id",),
    "DISCONNECT": (),
}
_ACKS = ("auto", "client", "client-individual")
_TRANSACTIONS = ("BEGIN", "COMMIT", "ABORT")


@dataclass(frozen=True, slots=True)
class Login:
    """What a client says of itself: a name, if it does, its token, and the milliseconds between heart-beats, out and in."""

    name: str | None
    token: str = field(repr=False)
    beats: tuple[int, int]


def presented(frame: Frame) -> Login:
    """Return who a first frame says that its sender is. Raises InvalidInput, Refused."""
    if frame.command not in {"CONNECT", "STOMP"}:
        raise Refused(f"A connection begins with CONNECT, not with {frame.command}.", "Log in first: the passcode is the agent's token.")
    headers = frame.headers
    _refuse_acted_upon(headers)
    if _VERSION not in headers.get("accept-version", "").split(","):
        raise InvalidInput("header accept-version", headers.get("accept-version"), f"a list with {_VERSION}, the one version that is spoken here")
    # Its value is told to nobody.
    if not headers.get("passcode"):
        raise InvalidInput("header passcode", None, "the agent's token: `federation agent token NAME` makes one")
    return Login(headers.get("login") or None, headers["passcode"], _beats(headers.get("heart-beat", "0,0")))


def _beats(said: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,10}),(\d{1,10})", said, re.ASCII)
    if found is None:
        raise InvalidInput("header heart-beat", said, "two numbers of milliseconds, such as 30000,30000")
    outgoing, incoming = (min(max(int(number), LEAST_BEAT_MS), MOST_BEAT_MS) if int(number) else 0 for number in found.groups())
    return outgoing, incoming


class Passage:
    """What one connection of an agent may say, with the subscriptions that it has."""

    def __init__(self, agent: str) -> None:
        """Raises InvalidInput for a name that is not one level of a destination."""
        self._writes, self._reads = FROM + agent, (queue_of(agent), BROADCAST)
        self._subscriptions: set[str] = set()

    def passed(self, frame: Frame) -> Frame:
        """Return what ActiveMQ is told in place of this frame. Raises InvalidInput, Refused: after that the connection is of no use."""
        command = frame.command
        if command in _TRANSACTIONS:
            raise Refused("There are no transactions here:", "send each message by itself, with an id, under which it is sent once.")
        if command not in _PASSED:
            raise Refused(f"{command} is nothing that a client says here;", f"there is {', '.join(_PASSED)}.")
        _refuse_acted_upon(frame.headers)
        headers = dict(_kept(frame))
        for name in _NEEDED[command]:
            if not headers.get(name):
                raise InvalidInput(f"header {name}", None, f"a value, in a {command}")
        if command == "SEND":
            self._check_send(headers)
            return Frame(command, headers, frame.body)
        if command == "SUBSCRIBE":
            headers = self._subscribed(headers)
        elif command == "UNSUBSCRIBE":
            if headers["id"] not in self._subscriptions:
                raise InvalidInput("header id", headers["id"], "the id of a subscription of this connection")
            self._subscriptions.remove(headers["id"])
        return Frame(command, headers)

    def _check_send(self, headers: Mapping[str, str]) -> None:
        if headers["destination"] != self._writes:
            raise InvalidInput("header destination", headers["destination"], f"{self._writes}, where you speak")
        if headers.get("persistent", "true") not in {"true", "false"}:
            raise InvalidInput("header persistent", headers["persistent"], "true or false")
        if not re.fullmatch(r"\d{1,15}", headers.get("expires", "0"), re.ASCII):
            raise InvalidInput("header expires", headers["expires"], "a moment in milliseconds since 1970")

    def _subscribed(self, headers: Mapping[str, str]) -> dict[str, str]:
        destination, identity, ack = headers["destination"], headers["id"], headers.get("ack", "auto")
        if destination not in self._reads:
            raise InvalidInput("header destination", destination, f"{' or '.join(self._reads)}, where you are spoken to")
        # What everybody is told would pile up in ActiveMQ for who does not settle it.
        acks = ("auto",) if destination == BROADCAST else _ACKS
        if ack not in acks:
            raise InvalidInput("header ack", ack, f"{' or '.join(acks)} for {destination}")
        if identity in self._subscriptions:
            raise InvalidInput("header id", identity, "an id that no other subscription of this connection has")
        if len(self._subscriptions) >= MOST_SUBSCRIPTIONS:
            raise Refused(f"A connection may have {MOST_SUBSCRIPTIONS} subscriptions, and has;", "end one of them first.")
        self._subscriptions.add(identity)
        return {**headers, "ack": ack, **({} if destination == BROADCAST else {"activemq.prefetchSize": PREFETCH})}


def _kept(frame: Frame) -> Iterator[tuple[str, str]]:
    """Yield the headers that are passed on; those of a SEND that say who sends are, so that the message is refused for them."""
    for name, value in frame.headers.items():
        says_who = frame.command == "SEND" and _NAME.fullmatch(name) and claims_sender(name)
        if name not in _PASSED[frame.command] and not says_who:
            continue
        if len(value) > LONGEST_VALUE or _CONTROL.search(value):
            wants = f"at most {LONGEST_VALUE} characters, without line ends and other control characters"
            raise InvalidInput(f"header {name}", value, wants)
        yield name, value


def _refuse_acted_upon(headers: Mapping[str, str]) -> None:
    if len(headers) > MOST_HEADERS:
        raise InvalidInput("headers", len(headers), f"at most {MOST_HEADERS}")
    for name, value in headers.items():
        if _NAME.fullmatch(name) and _ACTED_UPON.fullmatch(name):
            raise InvalidInput(f"header {name[:100]}", value[:100], "no such header: what it asks of the broker is not to be had here")
