"""The bodies of typed messages are those of the coordination patterns; what does not fit is named by its field."""

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.errors import InvalidInput
from federation.services import envelopes
from federation.store.models.conversations import MessageType

FINDING, ACTION, REQUEST, RESPONSE = MessageType.FINDING, MessageType.ACTION, MessageType.REQUEST, MessageType.RESPONSE
ID = uuid.uuid4()


def test_what_the_patterns_show_is_read_as_it_stands() -> None:
    evidence = [{"source": "prometheus", "query": "rate(errors[5m])", "result": "0.05"}]
    finding = envelopes.read(FINDING, {"category": "observation", "content": "errors", "confidence": 0.7, "evidence": evidence})
    assert finding is not None
    assert (finding.content, finding.data) == ("errors", {"category": "observation", "confidence": 0.7, "evidence": evidence})
    action = envelopes.read(ACTION, {"type": "modify", "target": "cache", "parameters": {"size": 1}, "requires_approval": True})
    assert action is not None
    assert (action.content, action.words, action.requires_approval) == (None, "modify cache", True)
    request = envelopes.read(REQUEST, {"to": "any", "capability": "analyze_logs", "parameters": {"since": "10:15"}})
    assert request is not None
    assert (request.to, request.capability, request.data["parameters"]) == ("any", "analyze_logs", {"since": "10:15"})
    assert request.words == 'analyze_logs {"since": "10:15"}'
    response = envelopes.read(RESPONSE, {"request_id": str(ID), "status": "failure", "result": {"reason": "no logs"}})
    assert response is not None
    assert (response.reply_to, response.data) == (ID, {"status": "failure", "result": {"reason": "no logs"}})


MISFITS: tuple[tuple[MessageType, dict[str, Any], str], ...] = (
    (FINDING, {"category": "observation", "confidence": 1.1}, "body.confidence: got 1.1, wants less than or equal to 1"),
    (FINDING, {"category": "observation", "confidence": -0.1}, "body.confidence: got -0.1, wants greater than or equal to 0"),
    (FINDING, {"category": "observation", "confidence": True}, "body.confidence: got True"),
    (FINDING, {"category": "guess"}, "body.category: got 'guess', wants 'observation', 'hypothesis' or 'conclusion'"),
    (FINDING, {}, "body.category: got None, wants one of observation, hypothesis, conclusion"),
    (FINDING, {"category": "observation", "evidence": [{"query": "x"}]}, "body.evidence.0.source: got None"),
    (FINDING, {"category": "observation", "evidence": [{"source": "x", "querry": "y"}]}, "no such field in a finding; nearest: query"),
    (ACTION, {"type": "destroy"}, "body.type: got 'destroy', wants 'query', 'modify', 'notify' or 'escalate'"),
    (ACTION, {"type": "query", "requires_approval": "yes"}, "body.requires_approval: got 'yes', wants true or false"),
    (REQUEST, {"capability": "analyze logs"}, "body.capability: got 'analyze logs', wants 1 to 100 letters"),
    (REQUEST, {"capabilty": "analyze_logs"}, "body.capabilty: got 'analyze_logs', wants no such field in a request; nearest: capability"),
    (RESPONSE, {"status": "maybe"}, "body.status: got 'maybe', wants 'success' or 'failure'"),
    (RESPONSE, {"request_id": "0" * 33}, "body.request_id"),
    (RESPONSE, {"result": [1]}, "body.result: got [1]"),
    (MessageType.CHAT, {"x": 1}, "body: got {'x': 1}, wants no body for a chat"),
)


@pytest.mark.parametrize(("kind", "body", "says"), MISFITS)
def test_what_does_not_fit_is_named_by_its_field(kind: MessageType, body: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        envelopes.read(kind, body)
    assert says in str(refused.value)
    assert refused.value.field.startswith("body")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
    max_leaves=4,
)
KNOWN = st.sampled_from(sorted({name for form in envelopes.BODIES.values() for name in form.model_fields}))


@given(kind=st.sampled_from(sorted(envelopes.BODIES)), body=st.dictionaries(KNOWN | st.text(max_size=8), JSON, max_size=5))
def test_no_body_does_anything_but_fit_or_be_refused_by_name(kind: str, body: dict[str, Any]) -> None:
    try:
        found = envelopes.read(MessageType(kind), body)
    except InvalidInput as error:
        field = error.field
    else:
        field = "body"
        _look_at(found)
    assert field.startswith("body")


def _look_at(found: envelopes.Envelope | None) -> None:
    assert found is not None
    assert found.content or found.words
    # Whom it is for and what it answers stand in columns of the message.
    assert not found.data.keys() & {"to", "request_id", "content"}
