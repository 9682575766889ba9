"""What a call may be asked to sign: a front door that asks for anything that the call does not say gets no signature."""

import uuid
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import pytest

from federation.consensus.proposal import TYPE
from federation.mcp.signing import Wanted
from federation.security.statements import content_sha256
from federation.store.fixed_ids import named_id
from federation.stub.checks import SIGNED, flaw, is_unnamed

TASK = "0b54c1de-4f5a-4c1e-9a57-2f6f3c1f0a11"
QUESTION = "0b54c1de-4f5a-4c1e-9a57-2f6f3c1f0a12"
TERMS = {"task_type": "investigate", "executor": "agent", "priority": 5}


def words(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def message(**about: Any) -> dict[str, Any]:
    said = {"conversation_id": "commons", "to": None, "audience": None, "message_type": "chat", "reply_to": None}
    return said | {"content_sha256": words("hello"), "body_sha256": None} | about


def handed_out(**about: Any) -> dict[str, Any]:
    return {"conversation_id": "commons", "description": "Look", "slug": "look", "terms": TERMS} | about


def of_message(conversation: str = "commons") -> str:
    return f"message:{named_id('message', conversation, 'ada', 'm')}"


def of_task(conversation: str = "commons") -> str:
    return f"task:{named_id('task', conversation, 'ada', 'look')}"


# The tool, its arguments, and what may be signed of them: action, choice, subject, content.
HELLO = {"content": "hello", "message_id": "m"}
LOOK = {"description": "Look", "task_id": "look"}


def proposed(*options: str, mechanism: str = "majority", revision: int = 1) -> dict[str, Any]:
    return {
        "type": TYPE,
        "consensus_id": QUESTION,
        "revision": revision,
        "conversation_id": "commons",
        "options": list(options),
        "mechanism": mechanism,
        "base": "cast",
        "electorate": [{"agent": "ada", "weight": 1000}],
        "quorum": 0,
        "threshold": None,
    }


def ballot(about: dict[str, Any], *response: str, **more: Any) -> dict[str, Any]:
    return {"options_hash": content_sha256(about), "response": list(response), "confidence": None, "reason": ""} | more


PLAIN, ACTION = proposed("a", "b"), proposed("approve", "reject")
RANKING, APPROVING = proposed("b", "a", mechanism="ranked", revision=2), proposed("a", "b", mechanism="approval", revision=2)
# The fifth, of a ballot, is what is voted on.
GOOD: tuple[tuple[str, dict[str, Any], tuple[Any, ...]], ...] = (
    ("federation_send", HELLO, ("message.send", "send", of_message(), message())),
    ("federation_send", HELLO | {"to": "bob"}, ("message.send", "send", of_message("direct"), message(to="bob", conversation_id="direct"))),
    ("federation_send", HELLO | {"to": "role:lead"}, ("message.send", "send", of_message(), message(audience="role:lead"))),
    (
        "federation_send",
        HELLO | {"reply_to": TASK.upper()},
        # Where an answer goes, and what it is, follows from what it answers.
        (
            *("message.send", "send", of_message("x")),
            message(conversation_id="x", to="bob", reply_to=TASK, message_type="response", body_sha256=content_sha256({"status": "success"})),
        ),
    ),
    (
        "federation_send",
        HELLO | {"message_type": "finding", "body": {"category": "observation", "content": None, "evidence": [{"source": "x", "query": None}]}},
        (
            *("message.send", "send", of_message()),
            message(message_type="finding", body_sha256=content_sha256({"category": "observation", "evidence": [{"source": "x"}]})),
        ),
    ),
    (
        "federation_ask",
        HELLO | {"to": "bob", "parameters": {"n": 1.5}},
        ("message.send", "send", of_message(), message(to="bob", message_type="request", body_sha256=content_sha256({"parameters": {"n": 1.5}}))),
    ),
    ("federation_delegate", LOOK, ("task.delegate", "delegate", of_task(), handed_out())),
    (
        "federation_delegate",
        LOOK | {"role": "developer", "min_vram_gib": 8, "start_at": "2030-01-31T18:00:00+01:00", "parent": TASK.upper(), "conversation_id": None},
        (
            *("task.delegate", "delegate", of_task()),
            handed_out(
                terms=TERMS
                | {"executor": "node", "requirements": {"role": "developer", "min_vram_gib": 8.0, "engine": "chat"}}
                | {"start_at": "2030-01-31T17:00:00+00:00", "parent_id": TASK}
            ),
        ),
    ),
    (
        "federation_delegate",
        LOOK | {"agent": "bob", "parameters": {"x": 1}, "priority": 9, "timeout_s": 60, "requires_approval": True, "task_type": "modify"},
        (
            *("task.delegate", "delegate", of_task()),
            handed_out(
                requires_approval=True,
                terms=TERMS | {"reserved_for": "bob", "parameters": {"x": 1}, "priority": 9, "timeout_s": 60.0, "task_type": "modify"},
            ),
        ),
    ),
    (
        "federation_assign_role",
        {"conversation_id": "commons", "agent": "bob", "role": "developer", "subtask": "Look", "task_id": "look"},
        ("role.assign", "assign", of_task(), handed_out(designated="developer", terms=TERMS | {"reserved_for": "bob"})),
    ),
    (
        "federation_assign_role",
        {"conversation_id": "commons", "agent": "bob", "role": "developer", "subtask": TASK},
        ("role.assign", "assign", f"task:{TASK}", {"agent": "bob", "role": "developer"}),
    ),
    ("federation_claim_task", {"task_id": TASK, "ttl_s": 60}, ("task.claim", "claim", f"task:{TASK}", {"description": "", "ttl_s": 60.0})),
    ("federation_release_task", {"task_id": TASK}, ("task.release", "release", f"task:{TASK}", {})),
    (
        "federation_complete_task",
        {"task_id": TASK, "fencing_token": 1, "result": {"leaks": 0}},
        ("task.complete", "completed", f"task:{TASK}", {"result": {"leaks": 0}}),
    ),
    (
        "federation_complete_task",
        {"task_id": TASK, "fencing_token": 1, "result": {}, "success": False},
        ("task.complete", "failed", f"task:{TASK}", {"result": {}}),
    ),
    ("federation_cancel_task", {"task_id": TASK}, ("task.cancel", "cancel", f"task:{TASK}", {"result": {"cancelled_by": "ada", "reason": ""}})),
    ("federation_cancel_task", {"task_id": TASK, "reason": "x"}, ("execution.cancel", "cancel", f"execution:{TASK}", {"reason": "x"})),
    (
        "federation_claim",
        {"resource": "file:src/a.py", "ttl_s": 60},
        ("claim.take", "take", "claim:file:src/a.py", {"description": "", "ttl_s": 60, "fencing_token": None}),
    ),
    ("federation_release", {"resource": "file:src/**"}, ("claim.release", "release", "claim:file:src/**", {})),
    (
        "federation_approve",
        {"task_id": TASK, "decision": "reject", "reason": "no"},
        ("task.decide", "reject", f"task:{TASK}", {"description": "Restart", "terms": TERMS, "reason": "no"}),
    ),
    (
        "federation_consensus_respond",
        {"consensus_id": QUESTION, "response": "a", "reason": "x"},
        (
            *("consensus.vote", "a", f"consensus:{QUESTION}:1:ada"),
            ballot(PLAIN, "a", reason="x"),
            PLAIN,
        ),
    ),
    (
        "federation_consensus_respond",
        {"consensus_id": "auth", "response": "abstain"},
        ("consensus.vote", "abstain", f"consensus:{QUESTION}:1:ada", ballot(PLAIN), PLAIN),
    ),
    (
        "federation_consensus_respond",
        {"consensus_id": QUESTION, "choices": ["a", "b"], "confidence": 0.5},
        ("consensus.vote", "2>1", f"consensus:{QUESTION}:2:ada", ballot(RANKING, "a", "b", confidence=0.5), RANKING),
    ),
    (
        "federation_consensus_respond",
        {"consensus_id": "auth", "choices": ["b"]},
        ("consensus.vote", "1", f"consensus:{QUESTION}:2:ada", ballot(RANKING, "b"), RANKING),
    ),
    (
        "federation_consensus_respond",
        {"consensus_id": QUESTION, "choices": ["b", "a"], "confidence": 0.5},
        ("consensus.vote", "1+2", f"consensus:{QUESTION}:2:ada", ballot(APPROVING, "a", "b", confidence=0.5), APPROVING),
    ),
    (
        "swarm_vote",
        {"session_id": "s", "action_id": "x", "vote": "no", "options_hash": content_sha256(ACTION)},
        ("consensus.vote", "reject", f"consensus:{QUESTION}:1:ada", ballot(ACTION, "reject"), ACTION),
    ),
    ("swarm_claim_task", {"session_id": "s", "ttl_s": 60}, ("task.claim", "claim", f"task:{TASK}", {"description": "", "ttl_s": 60})),
    (
        "swarm_complete_task",
        {"session_id": "s", "action_id": TASK, "fencing_token": 1, "result": {}},
        ("task.complete", "completed", f"task:{TASK}", {"result": {}}),
    ),
)
# What only the federation knows, where the call leaves it open.
OPEN = {
    "federation_send": {"conversation_id"},
    "federation_ask": {"conversation_id"},
    "federation_delegate": {"conversation_id"},
    "federation_approve": {"description", "terms"},
}


def wanted(action: str, choice: str, subject: str, content: Mapping[str, Any], proposal: dict[str, Any] | None = None) -> Wanted:
    return Wanted(actor="ada", action=action, choice=choice, subject=subject, content=dict(content), proposal=proposal)


def test_each_tool_that_is_signed_is_tried() -> None:
    assert {tool for tool, *_ in GOOD} == SIGNED


@pytest.mark.parametrize(("tool", "arguments", "asked"), GOOD)
def test_what_a_call_says_may_be_signed_and_nothing_else(tool: str, arguments: dict[str, Any], asked: tuple[Any, ...]) -> None:
    good = wanted(*asked)
    assert flaw(tool, arguments, good) is None
    assert not is_unnamed(good)
    kind, _, rest = good.subject.partition(":")
    changed: list[dict[str, Any]] = [{"action": "task.forget"}, {"choice": "other"}, {"subject": f"other:{rest}"}]
    for name, value in good.content.items():
        if name == "terms" and tool in {"federation_delegate", "federation_assign_role"}:
            changed += [{"content": good.content | {"terms": {**value, term: "other"}}} for term in value]
            changed.append({"content": good.content | {"terms": {**value, "capability": "fly"}}})
        elif name not in OPEN.get(tool, set()) or name in arguments:
            # Of an answer the federation knows to whom it goes.
            if arguments.get("reply_to") and name in {"to", "audience"}:
                continue
            changed.append({"content": good.content | {name: "other"}})
    if kind not in {"claim", "consensus"} and tool != "swarm_claim_task":
        changed.append({"subject": f"{kind}:{uuid.uuid4()}"})
    if kind == "consensus":
        changed += [{"subject": good.subject.replace(":ada", ":bob")}, {"subject": good.subject.replace(":ada", "1:ada")}]
        # The place of another option; a proposal that is not what the hash is of, and one with its hash that has the options elsewhere.
        changed += [{"choice": other} for other in ("1", "2", "1>2", "2+1", "a", "b", "abstain") if other != good.choice]
        assert good.proposal
        turned = good.proposal | {"options": good.proposal["options"][::-1]}
        changed += [{"proposal": None}, {"proposal": {}}, {"proposal": turned}]
        if good.choice not in {"abstain", "a", "reject"}:
            changed.append({"proposal": turned, "content": good.content | {"options_hash": content_sha256(turned)}})
    if tool != "federation_approve":
        changed.append({"content": good.content | {"more": 1}})
    for change in changed:
        assert flaw(tool, arguments, good.model_copy(update=change)) is not None, change


ON_A_NODE = TERMS | {"executor": "node", "requirements": {"gpus": 1, "engine": "chat"}}


@pytest.mark.parametrize(
    ("tool", "arguments", "asked"),
    [
        ("federation_send", HELLO, ("message.send", "send", of_message(), message(message_type="action"))),
        ("federation_send", HELLO, ("message.send", "send", of_message(), message(message_type="response"))),
        ("federation_send", HELLO, ("message.send", "send", of_message(), message(body_sha256=content_sha256({"status": "success"})))),
        ("federation_send", HELLO | {"reply_to": TASK}, ("message.send", "send", of_message(), message(reply_to=TASK, message_type="action"))),
        ("federation_delegate", LOOK, ("task.delegate", "delegate", of_task(), handed_out(requires_approval=True))),
        (
            "federation_delegate",
            LOOK,
            ("task.delegate", "delegate", of_task(), handed_out(terms=TERMS | {"requirements": {"engine": "llamacpp"}})),
        ),
        (
            "federation_delegate",
            LOOK | {"gpus": 1},
            ("task.delegate", "delegate", of_task(), handed_out(terms=ON_A_NODE | {"requirements": {"gpus": 1, "engine": "openai"}})),
        ),
        (
            "federation_delegate",
            LOOK | {"gpus": 1, "task_type": "report"},
            ("task.delegate", "delegate", of_task(), handed_out(terms=ON_A_NODE | {"task_type": "report"})),
        ),
        ("federation_claim_task", {"task_id": TASK}, ("task.claim", "claim", f"task:{TASK}", {"description": "", "ttl_s": 1e9})),
        (
            "federation_claim",
            {"resource": "file:a.py"},
            ("claim.take", "take", "claim:file:a.py", {"description": "", "ttl_s": 0, "fencing_token": None}),
        ),
    ],
)
def test_what_a_call_leaves_open_is_signed_as_what_it_means(
    tool: str, arguments: dict[str, Any], asked: tuple[str, str, str, dict[str, Any]]
) -> None:
    assert flaw(tool, arguments, wanted(*asked)) is not None


def test_what_a_call_leaves_open_may_be_as_the_operator_has_set_it() -> None:
    claimed = wanted("task.claim", "claim", f"task:{TASK}", {"description": "", "ttl_s": 300.0})
    assert flaw("federation_claim_task", {"task_id": TASK}, claimed) is None


@pytest.mark.parametrize(("work", "engine"), [("analyze", "chat"), ("report", "minilm")])
def test_a_node_needs_the_engine_of_the_work(work: str, engine: str) -> None:
    terms = TERMS | {"task_type": work, "executor": "node", "requirements": {"gpus": 1, "engine": engine}}
    asked = wanted("task.delegate", "delegate", of_task(), handed_out(terms=terms))
    assert flaw("federation_delegate", LOOK | {"gpus": 1, "task_type": work}, asked) is None


def test_a_task_without_a_name_is_named_first() -> None:
    unnamed = {name: value for name, value in handed_out().items() if name != "slug"}
    assert is_unnamed(wanted("role.assign", "assign", f"task:{TASK}", unnamed))
    assert flaw("federation_delegate", LOOK, wanted("task.delegate", "delegate", f"task:{TASK}", unnamed)) is not None


def test_what_is_no_content_at_all_is_not_signed() -> None:
    for tool, arguments, (action, choice, subject, *_) in GOOD:
        if tool not in {"federation_release_task", "federation_release"}:
            assert flaw(tool, arguments, wanted(action, choice, subject, {})) is not None, tool


COMPLETE, CLAIM = {"task_id": TASK, "fencing_token": 1}, {"task_id": TASK, "ttl_s": 1}


@pytest.mark.parametrize(
    ("tool", "arguments", "asked"),
    [
        *(
            ("federation_complete_task", COMPLETE | {"result": said}, ("task.complete", "completed", f"task:{TASK}", {"result": told}))
            for said, told in (({"n": 1}, {"n": True}), ({"n": False}, {"n": 0}), ({"n": [0]}, {"n": [False]}), ({"n": 1}, {"n": 2**60}))
        ),
        ("federation_claim_task", CLAIM, ("task.claim", "claim", f"task:{TASK}", {"description": "", "ttl_s": True})),
        ("federation_claim_task", {"task_id": TASK}, ("task.claim", "claim", f"task:{TASK}", {"description": "", "ttl_s": True})),
        ("federation_claim_task", {"task_id": TASK}, ("task.claim", "claim", f"task:{TASK}", {"description": "", "ttl_s": float("nan")})),
        *(
            (
                "federation_complete_task",
                COMPLETE | {"result": {}, "success": said},
                ("task.complete", choice, f"task:{TASK}", {"result": {}}),
            )
            for said in ("false", "no", 0, 1)
            for choice in ("completed", "failed")
        ),
        (
            "federation_delegate",
            LOOK | {"requires_approval": "false"},
            ("task.delegate", "delegate", of_task(), handed_out(requires_approval=True)),
        ),
    ],
)
def test_true_is_no_number_and_a_word_is_neither_true_nor_false(tool: str, arguments: dict[str, Any], asked: tuple[Any, ...]) -> None:
    assert flaw(tool, arguments, wanted(*asked)) is not None


@pytest.mark.parametrize("more", [{"subtask": "Fix the login"}, {"subtask": "login", "task_id": "t"}, {"subtask": TASK, "parent": "release"}])
def test_what_is_to_be_done_is_no_task_that_is_there(more: dict[str, str]) -> None:
    there = wanted("role.assign", "assign", f"task:{TASK}", {"agent": "bob", "role": "lead"})
    assign = {"conversation_id": "commons", "agent": "bob", "role": "lead"}
    assert flaw("federation_assign_role", assign | {"subtask": "login"}, there) is None
    assert flaw("federation_assign_role", assign | more, there) is not None
