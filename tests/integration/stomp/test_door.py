"""The STOMP door lets in who brings the token of an agent that may speak STOMP, passes on what is its own, and ends with what ends."""

import os
import re
import resource
import signal
import socket
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwk, jwt

from federation.broker.frames import encode
from federation.local.certificates import Certificates
from federation.local.home import Home
from federation.local.ports import LOOPBACK, free_port
from federation.services import agents, feeds
from federation.stomp.door import MOST_OF_AN_AGENT, MOST_UNKNOWN
from federation.stomp.pace import AT_ONCE_S, SENDS_A_SECOND
from federation.stomp.passing import MOST_BODY_BYTES
from tests.integration.stomp.conftest import House, Raw

FILES = 4 * MOST_UNKNOWN
MINE, INBOX = "/queue/federation.from.bob", "/queue/federation.bob"


def taken(house: House, destination: str) -> list[bytes]:
    """What waits in a queue, taken as who may do everything, up to marks that are put there last: one is kept on disk, and one is not."""
    reader = Raw(house.broker.port).say("CONNECT", accept_version="1.2", login=house.broker.user, passcode=house.broker.password)
    assert answered(reader) == "CONNECTED"
    marks = {uuid.uuid4().bytes: persistent for persistent in ("true", "false")}
    for mark, persistent in marks.items():
        reader.say("SEND", mark, destination=destination, persistent=persistent)
    reader.say("SUBSCRIBE", id="1", destination=destination)
    bodies: list[bytes] = []
    while not marks.keys() <= set(bodies) and (message := reader.frame()) is not None:
        bodies.append(message.body)
    reader.say("DISCONNECT", receipt="r")
    while reader.frame() is not None:
        pass
    reader.close()
    return [body for body in bodies if body not in marks]


def answered(client: Raw) -> str:
    frame = client.frame()
    assert frame is not None
    return frame.command


def test_who_brings_no_valid_token_is_told_what_to_do_and_goes(house: House) -> None:
    with house.transactions.begin("cli:tester") as session:
        ended = agents.issue_token(session, "bob", lasting=timedelta(microseconds=1))
    for passcode in ("fed_unknown", ended):
        told = house.raw().say("CONNECT", accept_version="1.2", login="bob", passcode=passcode).refusal()
        assert told.startswith("the passcode is no valid token of an agent")
    told = house.raw().say("STOMP", accept_version="1.2", login="bob").refusal()
    assert told == "header passcode: got None, wants the agent's token: `federation agent token NAME` makes one"
    told = house.raw().say("CONNECT", accept_version="1.2", login="eve", passcode=house.tokens["bob"]).refusal()
    assert told.startswith("Who speaks is known from the token alone: the login is another name, and the token is bob's")
    told = house.raw().say("CONNECT", accept_version="1.2", passcode=house.tokens["dan"]).refusal()
    assert told == "dan may not speak STOMP: an operator allows it with `federation agent stomp dan`."
    assert not any(token in house.log("stomp") for token in (*house.tokens.values(), ended))


def test_the_name_may_be_left_out(house: House) -> None:
    client = house.raw().say("STOMP", accept_version="1.0,1.2", passcode=house.tokens["bob"])
    connected = client.frame()
    assert connected is not None
    assert dict(connected.headers) == {"version": "1.2", "server": "federation", "heart-beat": "0,0"}
    assert client.say("SUBSCRIBE", id="1", destination=INBOX, receipt="r").frame() == ("RECEIPT", {"receipt-id": "r"}, b"")
    client.say("DISCONNECT", receipt="last")
    assert client.frame() == ("RECEIPT", {"receipt-id": "last"}, b"")
    assert client.frame() is None


REFUSED = {
    "another's place to speak": (encode("SEND", {"destination": "/queue/federation.from.eve", "receipt": "r"}), "header destination: got"),
    "another's inbox": (encode("SUBSCRIBE", {"destination": "/queue/federation.eve", "id": "1"}), "header destination: got"),
    "a wildcard": (encode("SUBSCRIBE", {"destination": "/queue/federation.*", "id": "1"}), "header destination: got"),
    "a list": (encode("SEND", {"destination": f"{MINE},/topic/celery.pidbox"}), "header destination: got"),
    "a selector": (encode("SUBSCRIBE", {"destination": INBOX, "id": "1", "selector": "a LIKE '%%'"}), "header selector: got"),
    "the scheduler": (encode("SEND", {"destination": MINE, "AMQ_SCHEDULED_CRON": "* * * * *"}), "header AMQ_SCHEDULED_CRON: got"),
    "a transaction": (encode("BEGIN", {"transaction": "t"}), "There are no transactions here"),
    "a server's word": (encode("MESSAGE", {"destination": MINE}), "MESSAGE is nothing that a client says here"),
    "a second login": (encode("CONNECT", {"accept-version": "1.2"}), "CONNECT is nothing that a client says here"),
    "no command": (b"GET / HTTP/1.1\n\n", "'GET / HTTP/1.1' is no STOMP command"),
    "an unknown escape": (b"SEND\ndestination:" + MINE.encode() + b"\nto:a\\t\n\n\0", "undefined escape"),
    "an escaped line end": (b"SEND\ndestination:" + MINE.encode() + b"\nto:eve\\nselector\\c1\n\n\0", "header to: got"),
    "an escaped name": (
        b"SUBSCRIBE\nid:1\ndestination:" + INBOX.encode() + b"\nselec\\r\\ntor:1\nselector\\c:1\nselector:1\n\n\0",
        "header selector",
    ),
    "a header without a colon": (b"SEND\ndestination\n\n\0", "a header without a colon"),
    "no text": (b"SEND\ndestination:\xff\n\n\0", "the head of a frame is not UTF-8"),
    "NUL in a head": (b"SEND\ndestination:" + MINE.encode() + b"\nto:\0\n\n\0", "header to: got"),
    "a head without end": (b"SEND\n" + b"a:b\n" * 10_000, "the head of a frame is longer than"),
    "a length that is none": (b"SEND\ndestination:" + MINE.encode() + b"\ncontent-length:-1\n\n\0", "content-length '-1' is no number"),
    "a length that lies": (b"SEND\ndestination:" + MINE.encode() + b"\ncontent-length:2\n\nabcd\0", "a body does not end with NUL"),
    "too long a body": (
        b"SEND\ndestination:" + MINE.encode() + b"\ncontent-length:%d\n\n" % (MOST_BODY_BYTES + 1),
        f"a body of {MOST_BODY_BYTES + 1} bytes is larger",
    ),
    "a body without end": (b"SEND\ndestination:" + MINE.encode() + b"\n\n" + b"a" * (MOST_BODY_BYTES + 200_000), "a body is larger than the limit"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_to_pass_ends_the_connection_with_words(house: House, what: str) -> None:
    said, why = REFUSED[what]
    assert house.logged_in("bob").write(said).refusal().startswith(why)


def test_an_error_names_the_receipt_that_was_asked_for(house: House) -> None:
    error = house.logged_in("bob").say("SEND", destination=INBOX, receipt="mine").frame()
    assert error is not None
    assert (error.command, error.headers["receipt-id"]) == ("ERROR", "mine")


def test_what_activemq_refuses_is_told_without_its_calls(house: House) -> None:
    client = house.logged_in("bob").say("ACK", id="nothing", receipt="r")
    error = client.frame()
    assert error is not None
    assert (error.command, error.headers["receipt-id"], error.body) == ("ERROR", "r", b"")
    assert error.headers["message"].startswith("Unexpected ACK received")
    assert client.frame() is None


def test_what_an_agent_rejects_is_gone_from_its_queue_and_put_aside_nowhere(house: House) -> None:
    client = house.logged_in("bob").say("SUBSCRIBE", id="1", destination=INBOX, ack="client-individual", receipt="r")
    assert answered(client) == "RECEIPT"
    writer = Raw(house.broker.port).say("CONNECT", accept_version="1.2", login=house.broker.user, passcode=house.broker.password)
    assert answered(writer) == "CONNECTED"
    writer.say("SEND", b"x", destination=INBOX, persistent="true")
    message = client.frame()
    assert message is not None
    client.say("NACK", id=message.headers["ack"], receipt="s")
    assert answered(client) == "RECEIPT"
    client.close()
    writer.close()
    assert taken(house, INBOX) == []
    assert taken(house, f"/queue/DLQ.{INBOX.removeprefix('/queue/')}") == []


def test_of_a_header_that_comes_twice_the_first_counts_here_and_there(house: House) -> None:
    reader = house.logged_in("eve").say("SUBSCRIBE", id="1", destination="/queue/federation.eve", receipt="r")
    assert answered(reader) == "RECEIPT"
    head = b"SEND\ndestination:%b\ndestination:/queue/federation.eve\nreceipt:a\nreceipt:b\ncontent-length:2\ncontent-length:9\n\nhi\0"
    client = house.logged_in("bob").write(head % MINE.encode())
    assert client.frame() == ("RECEIPT", {"receipt-id": "a"}, b"")
    assert taken(house, MINE) == [b"hi"]


def test_half_frames_and_any_pieces_arrive_whole_and_a_half_one_not_at_all(house: House) -> None:
    client = house.logged_in("bob")
    for piece in encode("SEND", {"destination": MINE, "receipt": "r"}, b"a\0b"):
        client.write(bytes([piece]))
    assert client.frame() == ("RECEIPT", {"receipt-id": "r"}, b"")
    client.write(encode("SEND", {"destination": MINE}, b"half")[:-3])
    client.close()
    assert taken(house, MINE) == [b"a\0b"]


def test_heart_beats_go_from_end_to_end(house: House) -> None:
    client = house.logged_in("bob", heart_beat="1000,1000")
    client.socket.settimeout(30)
    assert client.socket.recv(1) == b"\n"
    # It promised one a second, and sends none: ActiveMQ ends it.
    assert client.refusal().startswith("you promised a heart-beat every 1 s, and were silent for ")


@pytest.mark.parametrize("how", ["revoked", "off"])
def test_who_may_speak_no_more_is_turned_out_within_seconds(house: House, how: str) -> None:
    with house.transactions.begin("cli:tester") as session:
        name = f"kim-{how}"
        house.tokens[name] = agents.add(session, name, "developer")
        feeds.begin(session, name)
    client, other = house.logged_in(name), house.logged_in("bob")
    assert client.say("SEND", destination=f"/queue/federation.from.{name}", receipt="1").frame() is not None
    with house.transactions.begin("cli:tester") as session:
        if how == "revoked":
            agents.revoke(session, name)
        else:
            feeds.end(session, name)
    began = time.monotonic()
    told = client.refusal()
    assert told.startswith("the passcode is no valid token" if how == "revoked" else f"{name} may not speak STOMP")
    assert time.monotonic() - began < 60
    assert other.say("SEND", destination=MINE, receipt="1").frame() == ("RECEIPT", {"receipt-id": "1"}, b"")
    taken(house, MINE)
    taken(house, f"/queue/federation.from.{name}")


def test_a_jwt_of_the_issuer_is_a_passcode_until_it_ends(house: House, tmp_path: Path) -> None:
    key = jwk.RSAKey.generate_key(2048)
    (tmp_path / "issuer.pem").write_bytes(key.as_pem(private=False))
    told = {"iss": "https://login.example", "aud": "https://fed.example/mcp", "sub": "bob"}
    port = free_port()
    issuer = {"FEDERATION_JWT_ISSUER": told["iss"], "FEDERATION_JWT_KEYS": str(tmp_path / "issuer.pem"), "FEDERATION_JWT_AUDIENCE": told["aud"]}
    door = house.stomp_door(port=port, **issuer)

    def connect(**changed: object) -> Raw:
        token = jwt.encode({"alg": "RS256"}, {**told, "exp": int(time.time()) + 8, **changed}, key, algorithms=["RS256"])
        return Raw(port).say("CONNECT", accept_version="1.2", login="bob", passcode=token)

    client, ours = connect(), Raw(port).say("CONNECT", accept_version="1.2", login="eve", passcode=house.tokens["eve"])
    assert [answered(one) for one in (client, ours)] == ["CONNECTED", "CONNECTED"]
    for wrong in ({"aud": "https://other.example/mcp"}, {"sub": "nobody"}, {"exp": 1}):
        assert connect(**wrong).refusal().startswith("the passcode is no valid token of an agent")
    assert client.refusal().startswith("the passcode is no valid token of an agent")
    house.stop(door)


def test_over_tls_it_shows_the_front_doors_certificate_and_refuses_the_clear(house: House, tmp_path: Path) -> None:
    certificates = Certificates(Home(house.folder).tls_dir)
    certificates.make([])
    port, trusted = free_port(), certificates.client_context()
    door = house.stomp_door(port=port, trusted=trusted, FEDERATION_TLS="true")
    client = Raw(port)
    client.socket = trusted.wrap_socket(client.socket, server_hostname=LOOPBACK)
    client.say("CONNECT", accept_version="1.2", login="bob", passcode=house.tokens["bob"])
    assert answered(client) == "CONNECTED"
    assert answered(client.say("SUBSCRIBE", id="1", destination=INBOX, receipt="1")) == "RECEIPT"
    assert client.say("SUBSCRIBE", id="1", destination="/queue/>").refusal().startswith("header destination: got")
    with socket.create_connection((LOOPBACK, port), timeout=60) as clear:
        clear.sendall(encode("CONNECT", {"accept-version": "1.2", "passcode": house.tokens["bob"]}))
        assert b"CONNECTED" not in clear.recv(4096)
    house.stop(door)


def test_who_waits_without_a_handshake_keeps_nobody_out(house: House, tmp_path: Path) -> None:
    certificates = Certificates(Home(house.folder).tls_dir)
    certificates.make([])
    port, trusted = free_port(), certificates.client_context()
    door = house.stomp_door(port=port, trusted=trusted, FEDERATION_TLS="true")
    # As many as it has files for, and more.
    resource.prlimit(door.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
    house.opened += [Raw(port) for _ in range(FILES + 50)]
    eve = Raw(port)
    eve.socket = trusted.wrap_socket(eve.socket, server_hostname=LOOPBACK)
    assert answered(eve.say("CONNECT", accept_version="1.2", passcode=house.tokens["eve"])) == "CONNECTED"
    assert "Too many open files" not in house.log("stomp")
    house.stop(door)


def test_an_agent_has_not_any_number_of_connections(house: House) -> None:
    clients = [house.logged_in("bob") for _ in range(MOST_OF_AN_AGENT)]
    told = house.raw().say("CONNECT", accept_version="1.2", passcode=house.tokens["bob"]).refusal()
    assert told.startswith(f"bob may have {MOST_OF_AN_AGENT} connections, and has")
    house.logged_in("eve")
    clients[0].close()
    house.until(lambda: can_log_in(house, "bob"), "there is room for another")


def can_log_in(house: House, name: str) -> bool:
    return answered(house.raw().say("CONNECT", accept_version="1.2", passcode=house.tokens[name])) == "CONNECTED"


def test_who_waits_without_a_login_keeps_nobody_out(house: House) -> None:
    waiting = [house.raw() for _ in range(MOST_UNKNOWN + 5)]
    assert [client.frame() for client in waiting[:5]] == [None] * 5
    house.logged_in("eve")


def test_who_says_nothing_is_let_go(house: House) -> None:
    assert house.raw().refusal().startswith("nothing was said within")
    assert house.raw().write(b"CONNECT\naccept-version:1.2\n").refusal().startswith("nothing was said within")


def test_a_login_that_is_too_long_is_refused(house: House) -> None:
    long = b"CONNECT\naccept-version:1.2\ncontent-length:100000\n\n" + b"a" * 100_000
    assert house.raw().write(long).refusal().startswith("a CONNECT of more than")


def test_a_flood_and_many_idle_clients_hold_up_nobody(house: House) -> None:
    with house.transactions.begin("cli:tester") as session:
        # What who floods has written is passed on for minutes, also when he has gone: so it is nobody whom another test is about.
        for name in ("flooder", *(f"idle-{number}" for number in range(25))):
            house.tokens[name] = agents.add(session, name, "developer")
            feeds.begin(session, name)
    for number in range(200):
        house.logged_in(f"idle-{number % 25}")
    place = "/queue/federation.from.flooder"
    flooding = house.logged_in("flooder")
    flooding.socket.setblocking(False)
    flood = encode("SEND", {"destination": place}, b"x" * 1000) * 100
    eve = house.logged_in("eve")
    began = time.monotonic()
    for number in range(20):
        try:
            while True:
                flooding.socket.send(flood)
        except BlockingIOError:
            pass
        assert eve.say("SEND", destination="/queue/federation.from.eve", receipt=str(number)).frame() == ("RECEIPT", {"receipt-id": str(number)}, b"")
    flooding.close()
    taken(house, "/queue/federation.from.eve")
    assert len(taken(house, place)) <= SENDS_A_SECOND * (AT_ONCE_S + time.monotonic() - began) + 1


def test_who_is_a_slow_reader_of_much_is_let_go(house: House) -> None:
    reader = house.logged_in("bob")
    reader.say("SUBSCRIBE", id="1", destination=INBOX, ack="client-individual", receipt="r")
    assert answered(reader) == "RECEIPT"
    writer = Raw(house.broker.port)
    writer.say("CONNECT", accept_version="1.2", login=house.broker.user, passcode=house.broker.password).frame()
    for number in range(20):
        writer.say("SEND", b"x" * 1_000_000, destination=INBOX, receipt=str(number))
        assert answered(writer) == "RECEIPT"
    house.until(lambda: "you have read too little" in house.log("stomp"), "it is let go")
    writer.close()
    assert len(taken(house, INBOX)) == 20


def test_with_activemq_away_who_comes_is_told_and_who_is_in_goes_and_both_may_come_back(house: House, activemq: Any) -> None:
    client = house.logged_in("bob")
    activemq.stop()
    try:
        assert client.refusal() == "ActiveMQ has ended the connection; connect again in a while"
        told = house.raw().say("CONNECT", accept_version="1.2", passcode=house.tokens["bob"]).refusal()
        assert told == "ActiveMQ cannot be reached now; connect again in a while"
    finally:
        activemq.start()
    assert house.logged_in("bob").say("SEND", destination=MINE, receipt="1").frame() == ("RECEIPT", {"receipt-id": "1"}, b"")
    taken(house, MINE)


def test_with_postgresql_away_who_is_in_stays_and_who_comes_is_told(house: House, postgres: Any) -> None:
    client = house.logged_in("bob")
    postgres.stop()
    try:
        told = house.raw().say("CONNECT", accept_version="1.2", passcode=house.tokens["bob"]).refusal()
        assert "PostgreSQL" in told or "connection" in told
        house.until(lambda: "stomp.not_looked" in house.log("stomp"), "it has looked in vain")
        assert client.say("SEND", destination=MINE, receipt="1").frame() == ("RECEIPT", {"receipt-id": "1"}, b"")
    finally:
        postgres.start()
    house.until(lambda: can_log_in(house, "eve"), "it looks again")
    taken(house, MINE)


def test_what_was_receipted_survives_the_death_of_the_door_and_is_there_once(house: House) -> None:
    receipted: list[str] = []
    client = house.logged_in("bob")
    for number in range(40):
        client.say("SEND", str(number).encode(), destination=MINE, receipt=str(number), persistent="true")
    while len(receipted) < 15 and (frame := client.frame()) is not None:
        receipted.append(frame.headers["receipt-id"])
    os.kill(house.door.pid, signal.SIGKILL)
    while (frame := client.frame()) is not None:
        receipted.append(frame.headers["receipt-id"])
    house.door.wait()
    house.door = house.stomp_door()
    again = house.logged_in("bob").say("SEND", b"last", destination=MINE, receipt="last", persistent="true")
    assert again.frame() == ("RECEIPT", {"receipt-id": "last"}, b"")
    got = [body.decode() for body in taken(house, MINE)]
    assert len(got) == len(set(got))
    assert set(receipted) <= set(got)
    assert got[-1] == "last"


def test_asked_to_end_it_tells_its_clients(house: House) -> None:
    client = house.logged_in("bob")
    house.door.terminate()
    assert client.refusal() == "this door closes; connect again in a while"
    assert house.door.wait(60) == 0
    house.door = house.stomp_door()


def test_nothing_in_its_log_is_a_fault(house: House) -> None:
    assert not re.search("Traceback|stomp.failed|never retrieved", house.log("stomp"))
