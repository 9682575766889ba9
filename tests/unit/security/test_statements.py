"""A statement has one form, says all that it is about, and holds for no other; the same JSON has the same hash, however it is written."""

import base64
import json
from dataclasses import asdict, replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import assume, given
from hypothesis import strategies as st

from federation.errors import InvalidInput
from federation.security.signing import SigningKey
from federation.security.statements import (
    LONGEST,
    Draft,
    KeyVoice,
    Mode,
    NotAStatement,
    Statement,
    canonical,
    content_sha256,
    nonce,
    parse,
    presented,
)

KEY = SigningKey(Ed25519PrivateKey.generate())
WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=200)
DRAFTS = st.builds(
    Draft,
    actor=WORDS,
    action=WORDS,
    choice=WORDS,
    subject=WORDS,
    content_sha256=st.just("0" * 64),
    at=st.just("2026-11-28T14:00:00+00:00"),
    nonce=st.just("0" * 32),
)
PLAIN = Draft("carol", "task.decide", "approve", "task:1", "0" * 64, "2026-11-28T14:00:00+00:00", "0" * 32)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4),
    max_leaves=20,
)


@given(draft=DRAFTS)
def test_what_is_signed_is_read_back_and_its_signature_holds(draft: Draft) -> None:
    signed = KeyVoice(KEY, draft.actor).speak(draft)
    assume(len(signed.text) <= LONGEST)
    said = parse(signed.text)
    assert (asdict(draft).items() <= said.model_dump().items(), said.key, said.mode) == (True, KEY.public.identity, Mode.SIGNED)
    assert KEY.public.signed(signed.text.encode(), signed.signature)
    assert said.text == signed.text


@given(draft=DRAFTS, name=st.sampled_from(["actor", "action", "choice", "subject"]), other=WORDS)
def test_no_field_can_be_altered_under_a_signature(draft: Draft, name: str, other: str) -> None:
    assume(getattr(draft, name) != other)
    voice = KeyVoice(KEY, "somebody:else")
    signed, altered = voice.speak(draft), voice.speak(replace(draft, **{name: other}))
    assert signed.text != altered.text
    assert not KEY.public.signed(altered.text.encode(), signed.signature)


def test_who_signs_for_another_attests() -> None:
    said = parse(KeyVoice(KEY, "service:door").speak(PLAIN).text)
    assert (said.actor, said.attested_by, said.mode) == ("carol", "service:door", Mode.ATTESTED)


def _fields(**changed: object) -> dict[str, object]:
    return json.loads(KeyVoice(KEY, "carol").speak(PLAIN).text) | changed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Invalid JSON"),
        ("[]", "it: "),
        ("null", "it: "),
        ("x" * (LONGEST + 1), "characters"),
        (canonical(_fields()) + "\n", "one form"),
        (json.dumps(_fields()), "one form"),
        (canonical(_fields()).replace('{"action"', '{"action":"task.decide","action"', 1), "one form"),
        (canonical(_fields(at="yesterday")), "at: "),
        (canonical(_fields(at="2026-11-28T14:00:00")), "timezone"),
        (canonical(_fields(at="0001-01-01T00:00:00+00:00")), "one form"),
        (canonical(_fields(nonce="short")), "nonce"),
        (canonical(_fields(actor=7)), "actor"),
        (canonical(_fields(actor="")), "actor"),
        (canonical(_fields(key="mine")), "key"),
        (canonical(_fields(more="x")), "more"),
        (canonical(_fields(type="federation.statement/2")), "type"),
        (canonical({name: value for name, value in _fields().items() if name != "attested_by"}), "attested_by"),
    ],
)
def test_a_text_in_no_or_another_form_is_no_statement(text: str, says: str) -> None:
    with pytest.raises(NotAStatement, match=says):
        parse(text)


@given(text=st.text(max_size=400) | JSON.map(json.dumps))
def test_whatever_comes_is_a_statement_or_is_refused_as_none(text: str) -> None:
    with pytest.raises(NotAStatement):
        parse(text)


@given(value=JSON)
def test_the_form_reads_as_what_it_was_and_is_its_own_form(value: object) -> None:
    text = canonical(value)
    # As whoever holds each number for a double reads it.
    read = json.loads(text, parse_int=lambda digits: int(digits) if abs(int(digits)) < 2**53 else float(digits))
    assert read == value
    assert canonical(read) == text


@given(content=st.dictionaries(st.text(st.characters(codec="utf-8")), JSON, max_size=5))
def test_order_and_blanks_do_not_change_the_hash(content: dict[str, object]) -> None:
    turned = dict(reversed(list(content.items())))
    assert content_sha256(json.loads(json.dumps(turned, indent=3))) == content_sha256(content)


# From RFC 8785, 3.2.2.3 and appendix B.
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (9007199254740992.0, "9007199254740992"),
        (295147905179352830000.0, "295147905179352830000"),
        (9.999999999999997e22, "9.999999999999997e+22"),
        (1e23, "1e+23"),
        (999999999999999700000.0, "999999999999999700000"),
        (1e21, "1e+21"),
        (9.999999999999997e-7, "9.999999999999997e-7"),
        (0.000001, "0.000001"),
        (333333333.3333332, "333333333.3333332"),
        (-0.0000033333333333333333, "-0.0000033333333333333333"),
        (1424953923781206.2, "1424953923781206.2"),
        (4.50, "4.5"),
        (2e-3, "0.002"),
        (1.0, "1"),
        (2**53 - 1, "9007199254740991"),
        (1, "1"),
        ("\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/", '"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'),
        (
            {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7},
            '{"\\r":2,"1":4,"\x80":6,"ö":7,"€":1,"😀":5,"\ufb33":3}',
        ),
    ],
)
def test_the_form_is_that_of_the_standard(value: object, text: str) -> None:
    assert canonical(value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1: 2}, b"bytes", "\ud800", object(), {"a": {"b": {1, 2}}}])
def test_what_is_no_json_has_no_form(value: object) -> None:
    with pytest.raises(ValueError):
        canonical(value)


@pytest.mark.parametrize("number", [2**53, 2**53 + 1, -(2**53), 10**23])
def test_whole_numbers_that_doubles_do_not_tell_apart_have_no_hash(number: int) -> None:
    with pytest.raises(ValueError, match="exceeds safe integer domain"):
        content_sha256({"result": {"leaks": [number]}})
    assert content_sha256({"result": str(number)}) != content_sha256({"result": str(number + 1)})


def test_half_of_a_statement_and_a_signature_of_another_size_are_told() -> None:
    assert presented(None, None) is None
    whole = base64.b64encode(bytes(64)).decode()
    for statement, signature, says in (
        ("x", None, "signature"),
        (None, whole, "statement"),
        ("x", "no base64", "64 bytes"),
        ("x", "AAAA", "64 bytes"),
    ):
        with pytest.raises(InvalidInput, match=says):
            presented(statement, signature)
    found = presented("x", whole)
    assert found is not None
    assert found.speak(PLAIN).signature == bytes(64)


def test_nonces_differ_and_fit() -> None:
    one = nonce()
    assert one != nonce()
    Statement(**asdict(replace(PLAIN, nonce=one)), key="0" * 64, attested_by=None)
