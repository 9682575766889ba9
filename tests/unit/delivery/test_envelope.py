"""What is signed of a message: everything that a worker acts on, in the same bytes on both ends, and nothing that moving it changes."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from kombu.utils import json as kombu_json
from pydantic import ValidationError

from federation.broker.envelope import pack, pack_moved, unpack
from federation.broker.frames import Frame
from federation.delivery import envelope
from federation.delivery.envelope import HEADER, SIGNATURE, Envelope, Signature, canonical_bytes, settled, signature_header
from federation.placement.requirements import Requirements
from federation.security.signing import SigningKey

envelopes = st.builds(
    Envelope,
    actor=st.text(min_size=1, max_size=20),
    trace_id=st.text(alphabet="0123456789abcdef", min_size=32, max_size=32),
    requirements=st.builds(Requirements, role=st.none() | st.text(max_size=5), tags=st.lists(st.text(max_size=5), max_size=3).map(tuple)),
)
leaves = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=6) | st.datetimes() | st.uuids() | st.floats(allow_nan=False)
anything = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=6)
# As Celery's, and whatever a sender adds.
headers = st.builds(
    lambda own, more, sent: {**more, **own, HEADER: sent.header()},
    st.fixed_dictionaries(
        {
            "task": st.text(max_size=8),
            "id": st.uuids().map(str),
            "retries": st.integers(0, 5),
            "eta": st.none() | st.datetimes().map(lambda at: at.isoformat()),
            "expires": st.none() | st.datetimes().map(lambda at: at.isoformat()),
            "timelimit": st.tuples(st.none() | st.integers(1, 9), st.none()),
            "group": st.none() | st.text(max_size=4),
            "stamps": st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2),
        }
    ),
    st.dictionaries(st.text(alphabet="abc", min_size=1, max_size=5), anything, max_size=3),
    envelopes,
)
KEY = SigningKey(Ed25519PrivateKey.generate())


def over(given_headers: dict[str, Any], body: bytes = b"[]", **changed: Any) -> bytes:
    told = {"signer": "a" * 64, "node": None, "content_type": "application/json", "content_encoding": "utf-8"} | changed
    return canonical_bytes(given_headers, body, **told)


def as_text(value: Any) -> str:
    return str(kombu_json.dumps(value, sort_keys=True))


@given(envelopes)
def test_envelope_survives_a_header(sent: Envelope) -> None:
    assert envelope.read(json.loads(json.dumps(sent.header()))) == sent


@given(headers, st.data(), anything)
def test_any_change_of_any_header_changes_what_is_signed(sent: dict[str, Any], data: st.DataObject, other: Any) -> None:
    sent = settled(sent)
    name = data.draw(st.sampled_from(sorted(sent)))
    changed = settled({**sent, name: other})
    assert (over(sent) == over(changed)) == (as_text(sent[name]) == as_text(changed[name]))
    assert over({key: value for key, value in sent.items() if key != name}) != over(sent)
    assert over({**sent, "injected": other}) != over(sent)


@given(headers, st.sampled_from(["actor", "trace_id", "requirements"]), envelopes)
def test_any_change_of_the_envelope_changes_what_is_signed(sent: dict[str, Any], field: str, other: Envelope) -> None:
    before, after = sent[HEADER], {**sent[HEADER], field: other.header()[field]}
    assert (over({**sent, HEADER: after}) == over(sent)) == (after == before)


@given(headers, st.binary(max_size=20), st.binary(max_size=20))
def test_any_change_of_the_body_or_of_what_it_is_changes_what_is_signed(sent: dict[str, Any], body: bytes, other: bytes) -> None:
    signed = over(settled(sent), body)
    assert (over(settled(sent), other) == signed) == (other == body)
    for changed in ({"signer": "b" * 64}, {"node": "taichi"}, {"content_type": "application/x-python-serialize"}, {"content_encoding": "binary"}):
        assert over(settled(sent), body, **changed) != signed


@given(headers)
def test_order_and_what_is_added_on_the_way_change_nothing(sent: dict[str, Any]) -> None:
    sent = settled(sent)
    shuffled = dict(reversed(sent.items()))
    assert over({**shuffled, SIGNATURE: {"any": 1}, "compression": "application/zlib", "message_group": "g", "stomp_headers": {"a": "b"}}) == over(
        sent
    )


@given(headers, st.binary(max_size=40))
def test_a_signature_holds_where_the_message_arrives_and_where_it_is_moved_to(sent: dict[str, Any], body: bytes) -> None:
    said = over(settled(sent), body)
    made = signature_header("a" * 64, None, KEY.sign(said))
    message = {
        "headers": {**sent, SIGNATURE: made},
        "properties": {"delivery_info": {"exchange": "", "routing_key": "taichi"}},
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "body": body,
    }
    packed, raw = pack(message, "/queue/federation.node.taichi", max_bytes=10**6, schedule=False)
    arrived = Frame("MESSAGE", packed, raw)
    moved = Frame("MESSAGE", pack_moved(arrived, "/queue/federation.node.baby", "baby"), raw)
    for frame, queue in ((arrived, "taichi"), (moved, "baby")):
        got = unpack(frame, queue)
        assert got["delivery_info"]["routing_key"] == queue
        received = Signature.model_validate(got["headers"][SIGNATURE])
        assert KEY.public.signed(over(got["headers"], got["body"]), received.raw)


@pytest.mark.parametrize("header", [None, "text", {}, {"version": 2, "actor": "a", "trace_id": "b"}, {"actor": "a", "trace_id": "b", "more": 1}])
def test_header_that_is_no_envelope_is_refused(header: object) -> None:
    with pytest.raises(ValidationError):
        envelope.read(header)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changed", [{"signer": "x" * 64}, {"signer": "a"}, {"value": "x"}, {"value": "AAAA"}, {"value": 5}, {"more": 1}, {"version": 2}]
)
def test_header_that_is_no_signature_is_refused(changed: dict[str, Any]) -> None:
    good = signature_header("a" * 64, None, bytes(64))
    assert Signature.model_validate(good).raw == bytes(64)
    with pytest.raises(ValidationError):
        Signature.model_validate(good | changed)
