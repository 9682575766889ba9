"""A stranger's program looks at each statement in a bundle: whose key signed it, whether it was valid then, who contradicts himself."""

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from federation.security import bundle_verifier, merkle, seals
from federation.security.signing import SigningKey
from federation.security.statements import Draft, KeyVoice, canonical, content_sha256, nonce

TEXTS = st.text(st.characters(codec="utf-8"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)
SEALING, ADA, BOB, DOOR = (SigningKey(Ed25519PrivateKey.generate()) for _ in range(4))


def event(type_: str, actor: str, stream: str, **payload: Any) -> dict[str, Any]:
    return {"type": type_, "actor": actor, "stream": stream, "payload": payload}


def added(key: SigningKey, name: str) -> dict[str, Any]:
    part = ":" in name
    type_, stream = ("signer.registered", f"signer:{key.public.identity}") if part else ("agent.key_added", f"agent:{name}")
    return event(type_, name, stream, identity=key.public.identity, name=name, public_key=key.public.pem)


def revoked(key: SigningKey, name: str) -> dict[str, Any]:
    return event("agent.key_revoked", "cli:root", f"agent:{name}", identity=key.public.identity, name=name)


def stated(
    key: SigningKey, owner: str, choice: str = "approve", *, subject: str = "task:1", actor: str = "ada", action: str = "task.decide", **content: Any
) -> dict[str, Any]:
    draft = Draft(actor, action, choice, subject, content_sha256(content), datetime.now(UTC).isoformat(), nonce())
    signed = KeyVoice(key, owner).speak(draft)
    signature = base64.b64encode(signed.signature).decode()
    mode = "signed" if actor == owner else "attested"
    return event("statement.made", actor, subject, digest=signed.digest, mode=mode, statement=signed.text, signature=signature)


def changed(one: dict[str, Any], **payload: str) -> dict[str, Any]:
    return {**one, "payload": {**one["payload"], **payload}}


Verify = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def verify(tmp_path: Path) -> Verify:
    """Seal these events in a bundle, and let the program in it look at them."""

    def run(*events: Mapping[str, Any], words: tuple[str, ...] = (), python: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
        lines = [json.dumps(each) for each in events]
        (tmp_path / "events.jsonl").write_text("".join(f"{line}\n" for line in lines))
        made = seals.make([merkle.leaf(line.encode()) for line in lines], None, SEALING, at=datetime.now(UTC))
        (tmp_path / "seals.jsonl").write_text(seals.line(made) + "\n")
        (tmp_path / "key.pub.pem").write_text(SEALING.public.pem)
        command = [sys.executable, *python, bundle_verifier.__file__, *words, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def test_it_counts_who_signed_and_who_was_attested_and_lists_them(verify: Verify) -> None:
    events = (added(ADA, "ada"), added(DOOR, "service:door"), stated(ADA, "ada"), stated(DOOR, "service:door", subject="task:2"), revoked(ADA, "ada"))
    told = verify(*events, words=("--statements",))
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.splitlines() == [
        "event 3: task:1, task.decide: approve by ada, signed",
        "event 4: task:2, task.decide: approve by ada, attested by service:door",
        "5 events under 1 seals.",
        "Statements: 1 signed by their authors, 1 attested for them.",
        "All signatures, roots and hashes hold.",
    ]


def test_it_says_how_it_is_used(verify: Verify) -> None:
    told = verify(words=("--help",))
    assert (told.returncode, "python3 verify.py [--statements] [FOLDER]" in told.stdout) == (0, True)


def test_contraries_of_one_author_are_named(verify: Verify) -> None:
    told = verify(added(ADA, "ada"), stated(ADA, "ada"), stated(ADA, "ada", "reject"), stated(ADA, "ada", subject="task:2"))
    assert told.returncode == 0
    assert "EQUIVOCATION: ada signed task.decide of task:1 with approve (event 2) and reject (event 3).\n" in told.stdout
    assert told.stdout.count("EQUIVOCATION") == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="OpenSSL's command is not here")
def test_openssl_alone_looks_at_them_too(verify: Verify) -> None:
    events = (added(ADA, "ada"), stated(ADA, "ada"), changed(stated(ADA, "ada"), signature=base64.b64encode(bytes(64)).decode()))
    told = verify(*events, python=("-I", "-S"))
    assert (told.returncode, "event 3: its statement does not hold: its signature is wrong" in told.stdout) == (1, True)


RESULT = {"leaks": 1.0, "share": 1e23, "tiny": 5e-324, "many": 2.0**60, "none": -0.0, "ö": ["€", None, True]}


@given(value=st.floats(allow_nan=False, allow_infinity=False).filter(float.is_integer))
def test_the_stranger_reads_a_number_as_postgresql_writes_it(value: float) -> None:
    assert bundle_verifier.canonical(int(value)) == canonical(value)


@given(value=JSON)
def test_the_stranger_writes_the_one_form_too(value: object) -> None:
    assert bundle_verifier.canonical(value) == canonical(value)


def test_what_was_done_is_compared_with_what_was_stated(verify: Verify) -> None:
    # As PostgreSQL writes numbers: without exponents.
    stored = {**RESULT, "leaks": 1, "share": 10**23, "many": 2**60, "none": 0}
    done = event("task.completed", "ada", "task:1", result=stored)
    decided = event("task.approved", "ada", "task:2", reason="tested")
    told = verify(
        added(ADA, "ada"),
        stated(ADA, "ada", "completed", action="task.complete", result=RESULT),
        done,
        stated(ADA, "ada", subject="task:2", reason="tested"),
        decided,
        event("task.approved", "bob", "task:2", reason="before there were statements"),
        CAST,
        event("consensus.voted", "ada", VOTE, version=1, choice="OAuth2", **BALLOT),
        SENT,
        said("project"),
        said("elsewhere", message_id="8"),
        CANCELLED,
        event("task.cancelled", "ada", "task:1", status="cancelled", **ENDED),
        RELEASED,
        event("task.released", "ada", "task:1", status="pending"),
        event("task.released", "ada", "task:1", status="pending"),
        DELEGATED,
        handed_out(),
        DESIGNATED,
        handed_out("8", designated="developer"),
        assigned("8", "bob"),
        HANDED_ON,
        assigned("8", "dan"),
    )
    assert (told.returncode, told.stderr, "Not stated" in told.stdout) == (0, "", False)


def test_what_was_handed_out_and_not_stated_is_counted_and_listed(verify: Verify) -> None:
    told = verify(added(ADA, "ada"), DELEGATED, handed_out(), handed_out("8"), assigned("8", "dan"), words=("--statements",))
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.splitlines() == [
        "event 2: task:7, task.delegate: delegate by ada, signed",
        "event 4: task:8, task.created by ada: not stated",
        "event 5: task:8, role.assigned by ada: not stated",
        "5 events under 1 seals.",
        "Statements: 1 signed by their authors, 0 attested for them.",
        "Not stated by those who handed them out, as in a log of before: 2 tasks and roles.",
        "All signatures, roots and hashes hold.",
    ]


def test_what_was_decided_on_is_compared_too_where_it_was_stated(verify: Verify) -> None:
    about = {"reason": "tested", "description": "Restart the cache", "terms": {"executor": "node", "parameters": {"share": 0.5}}}
    decided = event("task.approved", "ada", "task:1", status="pending", **about)
    told = verify(added(ADA, "ada"), stated(ADA, "ada", **about), decided)
    assert (told.returncode, told.stderr) == (0, "")


ABOUT = {"reason": "b", "description": "Restart the cache", "terms": {"parameters": {"then": "nothing"}}}
OTHERS = ABOUT | {"terms": {"parameters": {"then": "all of it"}}}
VOTE, BALLOT = "consensus:1:1:ada", {"options_hash": "0" * 64, "response": ["OAuth2"], "confidence": 0.9, "reason": "so"}
CAST = stated(ADA, "ada", "OAuth2", subject=VOTE, action="consensus.vote", **BALLOT)
MESSAGE = dict.fromkeys(("to", "audience", "message_type", "reply_to", "content_sha256", "body_sha256"))
SENT = stated(ADA, "ada", "send", subject="message:7", action="message.send", conversation_id="project", **MESSAGE)
ENDED = {"result": {"cancelled_by": "ada", "reason": "found"}}
CANCELLED = stated(ADA, "ada", "cancel", action="task.cancel", **ENDED)
RELEASED = stated(ADA, "ada", "release", action="task.release")
DECIDED = event("task.approved", "ada", "task:1", reason="b")
TERMS = {"executor": "agent", "parameters": {"share": 0.5}, "priority": 5, "reserved_for": "bob", "task_type": "investigate"}
ASKED = {"conversation_id": "project", "description": "Restart the cache", "terms": TERMS}
DELEGATED = stated(ADA, "ada", "delegate", subject="task:7", action="task.delegate", **ASKED)
DESIGNATED = stated(ADA, "ada", "assign", subject="task:8", action="role.assign", **ASKED, designated="developer")
HANDED_ON = stated(ADA, "ada", "assign", subject="task:8", action="role.assign", agent="dan", role="developer")
PLAIN = stated(ADA, "ada")


def said(conversation: str, **changed: str) -> dict[str, Any]:
    payload = {"message_id": "7", **MESSAGE, **changed}
    return {**event("message.sent", "ada", f"messages:{conversation}", **payload), "conversation_id": conversation}


def handed_out(task: str = "7", **changed: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("slug", "parent_id", "capability", "start_at", "timeout_s", "session_id"))
    asked = {"type": "investigate", "description": "Restart the cache", "priority": 5, "executor": "agent", "reserved_for": "bob"}
    more = {"task_id": task, "status": "assigned", "requirements": {}, "look_up": False, "requires_approval": False, "parameters": {"share": 0.5}}
    return {**event("task.created", "ada", f"task:{task}", **{**empty, **asked, **more, **changed}), "conversation_id": "project"}


def assigned(task: str, agent: str, role: str = "developer") -> dict[str, Any]:
    return event("role.assigned", "ada", "conversation:project", version=1, assignment_id="1", agent=agent, role=role, task_id=task)


WRONG = {
    "altered": ((added(ADA, "ada"), changed(PLAIN, statement=PLAIN["payload"]["statement"].replace("approve", "reject"))), "signature is wrong"),
    "another actor": ((added(ADA, "ada"), {**stated(ADA, "ada"), "actor": "bob"}), "it is not by bob about task:1"),
    "another subject": ((added(ADA, "ada"), {**stated(ADA, "ada"), "stream": "task:2"}), "it is not by ada about task:2"),
    "another mode": ((added(DOOR, "service:door"), changed(stated(DOOR, "service:door"), mode="signed")), "it is not signed"),
    "another's key": ((added(BOB, "bob"), stated(BOB, "ada")), "its key is not ada's"),
    "an agent attests": ((added(BOB, "bob"), stated(BOB, "bob")), "its key is not bob's"),
    "a key that is not known yet": ((stated(ADA, "ada"), added(ADA, "ada")), "its key is not ada's"),
    "a revoked key": ((added(ADA, "ada"), revoked(ADA, "ada"), stated(ADA, "ada")), "its key was revoked before"),
    "another reason": ((added(ADA, "ada"), stated(ADA, "ada", reason="a"), DECIDED), "not what ada stated"),
    "another ballot": ((added(ADA, "ada"), CAST, event("consensus.voted", "ada", VOTE, choice="JWT", **BALLOT)), "not what ada stated"),
    "another reason for a ballot": (
        (added(ADA, "ada"), CAST, event("consensus.voted", "ada", VOTE, choice="OAuth2", **BALLOT | {"reason": "told to"})),
        "not what ada stated",
    ),
    "another's words": ((added(ADA, "ada"), SENT, said("project", content_sha256="0" * 64)), "not what ada stated"),
    "another conversation": ((added(ADA, "ada"), SENT, said("elsewhere")), "not what ada stated"),
    "another end": ((added(ADA, "ada"), CANCELLED, event("task.cancelled", "ada", "task:1", result={"cancelled_by": "ada"})), "not what ada stated"),
    "other terms": ((added(ADA, "ada"), stated(ADA, "ada", **ABOUT), event("task.approved", "ada", "task:1", **OTHERS)), "not what ada stated"),
    "no terms": ((added(ADA, "ada"), stated(ADA, "ada", **ABOUT), DECIDED), "not what ada stated"),
    "another choice": ((added(ADA, "ada"), stated(ADA, "ada", "reject", reason="b"), DECIDED), "not what ada stated"),
    **{
        f"another {name} of a task": ((added(ADA, "ada"), DELEGATED, handed_out(**{name: value})), "not what ada stated")
        for name, value in {
            **{"type": "analyze", "description": "Drop the tables", "parameters": {"share": 1}, "priority": 10, "executor": "node"},
            **{"requirements": {"role": "lead"}, "capability": "fly", "reserved_for": "dan", "look_up": True, "parent_id": "1"},
            **{"start_at": "2099-01-31T17:00:00+00:00", "timeout_s": 60, "requires_approval": True, "session_id": "1", "slug": "work"},
            "designated": "developer",
        }.items()
    },
    "a task in another conversation": (
        (added(ADA, "ada"), DELEGATED, {**handed_out(), "conversation_id": "elsewhere"}),
        "not what ada stated",
    ),
    "a new task without its role": ((added(ADA, "ada"), DESIGNATED, handed_out("8")), "not what ada stated"),
    "a new task with another role": ((added(ADA, "ada"), DESIGNATED, handed_out("8", designated="lead")), "not what ada stated"),
    "another role": ((added(ADA, "ada"), DESIGNATED, handed_out("8", designated="developer"), assigned("8", "bob", "lead")), "not what ada stated"),
    "another in a role": ((added(ADA, "ada"), HANDED_ON, assigned("8", "bob")), "not what ada stated"),
    "a key under another's name": ((changed(added(ADA, "ada"), public_key=BOB.public.pem), stated(ADA, "ada")), "another than it is named after"),
}


@pytest.mark.parametrize("how", WRONG)
def test_what_does_not_hold_is_named(verify: Verify, how: str) -> None:
    events, says = WRONG[how]
    told = verify(*events)
    assert (told.returncode, told.stderr) == (1, "")
    assert says in told.stdout


def test_an_event_that_was_written_beside_the_program_hides_no_other(verify: Verify) -> None:
    forged = [
        event("statement.made", "ada", "task:1"),
        event("statement.made", "ada", "task:1", statement="{}", mode="signed", signature="x"),
        event("consensus.voted", "ada", "consensus:1:1:ada"),
        {**event("task.approved", "ada", "task:1"), "payload": 5},
        event("agent.key_added", "ada", "agent:ada", identity="x"),
    ]
    wrong = changed(stated(ADA, "ada"), signature=base64.b64encode(bytes(64)).decode())
    told = verify(*forged, added(ADA, "ada"), stated(ADA, "ada"), wrong)
    assert (told.returncode, told.stderr) == (1, "")
    for number in range(1, 6):
        assert f"event {number}: it is not of the form of its type: " in told.stdout
    assert "event 8: its statement does not hold: its signature is wrong" in told.stdout
    assert "Statements: 1 signed by their authors" in told.stdout
    assert "6 flaws." in told.stdout
