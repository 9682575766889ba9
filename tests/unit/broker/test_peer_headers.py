"""Headers for groups, selectors and plain peers: what was asked for comes out, and nothing that is not the sender's to set."""

import pytest

from federation.broker.errors import HeaderRefused
from federation.broker.peer_headers import peer_headers, remembered


def test_a_property_goes_before_what_a_retry_remembers() -> None:
    assert remembered({"message_group": "new"}, {"message_group": "old", "other": 1}) == {"message_group": "new"}
    assert remembered({}, {"message_group": "old"}) == {"message_group": "old"}
    assert remembered({"message_group": ""}, {}) == {}


def test_values_become_texts_as_java_writes_them() -> None:
    asked = {"stomp_headers": {"size": 12, "ratio": 0.5, "urgent": True, "name": "ä"}, "message_group": 7}
    assert peer_headers(asked) == {
        "size": "12",
        "ratio": "0.5",
        "urgent": "true",
        "name": "ä",
        "JMSXGroupID": "7",
        "message_group": "7",
    }


@pytest.mark.parametrize("name", ["destination", "receipt", "JMSXGroupID", "message_group", "kombu", "kombu_1", "dead_letter_reason", "persistent"])
def test_headers_of_the_transport_are_refused(name: str) -> None:
    with pytest.raises(HeaderRefused, match=name):
        peer_headers({"stomp_headers": {name: "1"}})


@pytest.mark.parametrize("asked", [{"stomp_headers": {"long": "x" * 5000}}, {"message_group": "x" * 5000}, {"stomp_headers": {"x" * 10000: "1"}}])
def test_lines_that_activemq_would_cut_the_connection_for_are_refused(asked: dict[str, object]) -> None:
    with pytest.raises(HeaderRefused, match="10 kB"):
        peer_headers(asked)


@pytest.mark.parametrize("asked", [{"stomp_headers": {"a": "x\0y"}}, {"stomp_headers": {"a\0": "x"}}, {"message_group": "\0"}])
def test_a_nul_is_refused_because_others_end_the_frame_there(asked: dict[str, object]) -> None:
    with pytest.raises(HeaderRefused, match="NUL"):
        peer_headers(asked)


def test_headers_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(HeaderRefused, match="mapping"):
        remembered({"stomp_headers": "region=eu"}, {})
