"""What a call may be asked to sign: what it says itself, and what only the federation knows where it says nothing; refuses all else.

A key that stays with its agent proves something only if it signs what the agent asked for, whoever asks it to sign. So each field that the call
names is looked at; a conversation, a UUID, the terms of a task that is there are taken as the front door tells them.
"""

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from federation.consensus.ballots import ABSTAIN
from federation.consensus.proposal import rules
from federation.consensus.tally import ordered, spoken
from federation.errors import InvalidInput
from federation.mcp.signing import Wanted
from federation.placement.requirements import CHAT
from federation.security.statements import canonical, content_sha256
from federation.services import resources
from federation.services.names import PATTERN
from federation.services.resources import LONGEST_TTL_S, SHORTEST_TTL_S
from federation.store.fixed_ids import named_id

Arguments = Mapping[str, Any]
_MESSAGE = {"conversation_id", "to", "audience", "message_type", "reply_to", "content_sha256", "body_sha256"}
_NEEDS = ("role", "node", "engine", "model", "min_vram_gib", "gpus", "tags")
# What extracts a report.
_EXTRACTING = "minilm"
_SWARM_VOTES = {"yes": "approve", "no": "reject", "abstain": ABSTAIN}


def flaw(tool: str, arguments: Arguments, wanted: Wanted) -> str | None:
    """Return what a call is asked to sign that it does not say; None if it may be signed."""
    looks = _TOOLS[tool].get(wanted.action)
    if looks is None:
        return f"action {wanted.action!r}, which is none of {tool}"
    try:
        # As they are signed: to Python true is 1.
        looked = ((name, told, said) for name, told, said in looks(tool, arguments, wanted) if canonical(told) != canonical(said))
        return next((f"{name} {told!r}, and the call says {said!r}" for name, told, said in looked), None)
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError, InvalidInput) as error:
        return f"{wanted.action} of what does not fit the call ({type(error).__name__}: {str(error)[:200]})"


def name_of(tool: str) -> str | None:
    """Return the argument of a tool that names what it makes; None if it makes nothing that has a name."""
    return _NAMES.get(tool)


def is_unnamed(wanted: Wanted) -> bool:
    """Return whether it is a new task without a name, whose UUID is another one in the next call."""
    return wanted.subject.startswith("task:") and "description" in wanted.content and wanted.action in _MAKE_TASKS and "slug" not in wanted.content


def takes_any(tool: str, arguments: Arguments) -> bool:
    """Return whether it is for whichever task is left, which is another one when somebody was quicker."""
    return tool == "swarm_claim_task" and arguments.get("action_id") is None


Look = tuple[str, Any, Any]


def _given(arguments: Arguments, about: Mapping[str, Any], **named: str) -> Iterator[Look]:
    """Look at the arguments that the call has; where it has none, the federation's word counts."""
    for field, argument in named.items():
        if arguments.get(argument) is not None:
            yield field, about.get(field), arguments[argument]


def _exactly(about: Mapping[str, Any], **said: Any) -> Iterator[Look]:
    """Look at each field, and that there is no other."""
    yield "fields", sorted(about), sorted(said)
    for field, value in said.items():
        yield field, about.get(field), value


def _subject(wanted: Wanted, kind: str, known: Any = None) -> Iterator[Look]:
    """Look whether it is about this kind of thing, and about this very one where its id is known."""
    told, _, identity = wanted.subject.partition(":")
    yield "subject", told, kind
    if known is not None:
        yield "subject", identity, str(known)


def uuid_of(reference: str) -> uuid.UUID | None:
    """Return the UUID that a reference is; None if it is a name."""
    try:
        return uuid.UUID(reference)
    except ValueError:
        return None


def _whether(arguments: Arguments, argument: str, *, otherwise: bool) -> bool:
    """Return what an argument says. Raises InvalidInput for a word: the front door would read `"false"` as false, Python as true."""
    said = arguments.get(argument)
    if said is not None and not isinstance(said, bool):
        raise InvalidInput(argument, said, "true or false")
    return otherwise if said is None else said


def _moment(text: str) -> str:
    """Return a moment in UTC. Raises ValueError for one without a zone."""
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"{text} has no zone")
    return found.astimezone(UTC).isoformat()


def _message(tool: str, arguments: Arguments, wanted: Wanted) -> Iterator[Look]:
    about = wanted.content
    body = arguments.get("body") or {}
    to, reply_to = arguments.get("to") or body.get("to"), arguments.get("reply_to") or body.get("request_id")
    yield "choice", wanted.choice, "send"
    yield "fields", sorted(about), sorted(_MESSAGE)
    yield from _subject(wanted, "message", named_id("message", about["conversation_id"], wanted.actor, arguments["message_id"]))
    yield "content_sha256", about["content_sha256"], sha256(arguments["content"].encode()).hexdigest()
    yield "reply_to", about["reply_to"], None if reply_to is None else str(uuid.UUID(str(reply_to)))
    yield from _given(arguments, about, conversation_id="conversation_id")
    kind = "request" if tool == "federation_ask" else arguments.get("message_type")
    if kind is None:
        # An answer to a request is a response, once; to another message it is none.
        kind = "response" if reply_to is not None and about["message_type"] == "response" else "chat"
    yield "message_type", about["message_type"], kind
    if to is None and body.get("capability"):
        to = f"capability:{body['capability']}"
    if to is not None:
        is_audience = str(to).startswith(("role:", "capability:"))
        yield "to", about["to"], None if is_audience else to
        yield "audience", about["audience"], to if is_audience else None
    elif reply_to is None:
        yield "to", (about["to"], about["audience"]), (None, None)
    if tool == "federation_ask":
        yield "body_sha256", about["body_sha256"], content_sha256({"parameters": arguments["parameters"]} if arguments.get("parameters") else {})
    else:
        yield "body_sha256", about["body_sha256"], _body_sha256(arguments.get("body"), kind)


def _body_sha256(body: Mapping[str, Any] | None, kind: str) -> str | None:
    """Return what is signed of a body, as the page about keys has it; a response without a status is a success."""
    if body is None and kind != "response":
        return None
    found = {name: value for name, value in (body or {}).items() if name not in {"content", "to", "request_id"} and value is not None}
    if isinstance(evidence := found.get("evidence"), list):
        found["evidence"] = [{name: value for name, value in each.items() if value is not None} for each in evidence]
    return content_sha256({"status": "success", **found} if kind == "response" else found)


def _handed_out(tool: str, arguments: Arguments, wanted: Wanted) -> Iterator[Look]:
    about, terms = wanted.content, dict(wanted.content["terms"])
    yield "choice", wanted.choice, "delegate"
    yield from _subject(wanted, "task", named_id("task", about["conversation_id"], wanted.actor, arguments["task_id"]))
    yield "slug", about["slug"], arguments["task_id"]
    yield "description", about["description"], arguments["description"]
    yield from _given(arguments, about, conversation_id="conversation_id")
    yield "requires_approval", about.get("requires_approval", False), _whether(arguments, "requires_approval", otherwise=False)
    yield "fields", sorted(set(about) - {"conversation_id", "slug", "description", "terms", "requires_approval"}), []
    needs = {name: arguments[name] for name in _NEEDS if arguments.get(name)}
    by_agents = arguments.get("agent") is not None or arguments.get("capability") is not None or not needs
    executor, work = arguments.get("executor") or ("agent" if by_agents else "node"), arguments.get("task_type") or "investigate"
    yield "executor", terms.pop("executor"), executor
    if executor == "node":
        needs = {"engine": _EXTRACTING if work == "report" else CHAT} | needs
    yield "requirements", terms.pop("requirements", {}), needs
    yield "parent_id", (parent := terms.pop("parent_id", None)) is not None, bool(arguments.get("parent"))
    if parent is not None and (known := uuid_of(arguments["parent"])):
        yield "parent_id", parent, str(known)
    starts = arguments.get("start_at")
    told = terms.pop("start_at", None)
    yield "start_at", told and _moment(told), starts and _moment(starts)
    same = ("parameters", "capability", "look_up", "timeout_s")
    asked = {name: arguments[name] for name in same if arguments.get(name)}
    asked |= {"task_type": work, "priority": arguments.get("priority") or 5}
    if arguments.get("agent"):
        asked["reserved_for"] = arguments["agent"]
    yield "terms", terms, asked


def _assigned(tool: str, arguments: Arguments, wanted: Wanted) -> Iterator[Look]:
    yield "choice", wanted.choice, "assign"
    if "description" not in wanted.content:
        known = uuid_of(named := arguments["subtask"])
        # A sentence is no name of a task, and a task that is there gets neither a name nor a whole.
        if known is None and not re.fullmatch(PATTERN, named):
            yield "description", None, named
        yield "task_id", None, arguments.get("task_id")
        yield "parent", None, arguments.get("parent")
        yield from _subject(wanted, "task", known)
        yield from _exactly(wanted.content, agent=arguments["agent"], role=arguments["role"])
        return
    about = dict(wanted.content)
    yield "designated", about.pop("designated"), arguments["role"]
    task = {name: arguments[name] for name in ("conversation_id", "agent", "task_id", "parent") if arguments.get(name)}
    new = wanted.model_copy(update={"content": about, "choice": "delegate"})
    yield from _handed_out(tool, task | {"description": arguments["subtask"]}, new)


def _task_claimed(tool: str, arguments: Arguments, wanted: Wanted) -> Iterator[Look]:
    yield "choice", wanted.choice, "claim"
    reference = arguments.get("task_id" if tool == "federation_claim_task" else "action_id")
    yield from _subject(wanted, "task", reference and uuid_of(reference))
    yield from _exactly(wanted.content, description=arguments.get("description") or "", ttl_s=_ttl_s(arguments, wanted))


def _ttl_s(arguments: Arguments, wanted: Wanted) -> float | str:
    """Return how long a claim holds: where the call leaves it open as the operator has set it, which is as long as a call could say."""
    if (said := arguments.get("ttl_s")) is not None:
        return float(said)
    told = wanted.content["ttl_s"]
    return told if not isinstance(told, bool) and SHORTEST_TTL_S <= told <= LONGEST_TTL_S else f"{SHORTEST_TTL_S} to {LONGEST_TTL_S}"


def _task_released(tool: str, arguments: Arguments, wanted: Wanted) -> Iterator[Look]:
    yield "choice", wanted.choice, "release"
    yield from _subject(wanted, "task", uuid_of(arguments["task_id"]))
    yield from _exactly(wanted.content)


def _task_completed(tool: str, arguments: Arguments, wanted: Wanted) -> Iterator[Look]:
    yield "choice", wanted.choice, "completed" if _whether(arguments, "success", otherwise=True) else "failed"
    yield from _subject(wanted, "task", uuid_of(arguments["task_id" if tool == "federation_complete_task" else "action_id"]))
    yield from _exactly(wanted.content, result=arguments["result"])


def _task_cancelled(tool: str, arguments: Arguments, wanted: Wanted) -> Iterator[Look]:
    yield "choice", wanted.choice, "cancel"
    yield from _subject(wanted, "task", uuid_of(arguments["task_id"]))
    yield from _exactly(wanted.content, result={"cancelled_by": wanted.actor, "reason": arguments.get("reason") or ""})


def _execution_cancelled(tool: str, arguments: Arguments, wanted: Wanted) -> Iterator[Look]:
    yield "choice", wanted.choice, "cancel"
    yield from _subject(wanted, "execution", uuid_of(arguments["task_id"]))
    yield from _exactly(wanted.content, reason=arguments.get("reason") or "")


def _taken(tool: str, arguments: Arguments, wanted: Wanted) -> Iterator[Look]:
    yield "choice", wanted.choice, "take"
    yield from _subject(wanted, "claim", resources.parsed(arguments["resource"]).name)
    said = {"description": arguments.get("description") or "", "fencing_token": arguments.get("fencing_token")}
    yield from _exactly(wanted.content, ttl_s=_ttl_s(arguments, wanted), **said)


def _given_back(tool: str, arguments: Arguments, wanted: Wanted) -> Iterator[Look]:
    yield "choice", wanted.choice, "release"
    yield from _subject(wanted, "claim", resources.parsed(arguments["resource"]).name)
    yield from _exactly(wanted.content)


def _decided(tool: str, arguments: Arguments, wanted: Wanted) -> Iterator[Look]:
    about = wanted.content
    yield "choice", wanted.choice, arguments["decision"]
    yield from _subject(wanted, "task", uuid_of(arguments["task_id"]))
    yield from _exactly(about, description=about["description"], reason=arguments.get("reason") or "", terms=about["terms"])


def _voted(tool: str, arguments: Arguments, wanted: Wanted) -> Iterator[Look]:
    about, proposal = wanted.content, wanted.proposal or {}
    # What it is the hash of says which vote it is, at which revision, and which option stands in which place.
    yield "options_hash", about["options_hash"], content_sha256(proposal)
    yield "subject", wanted.subject, f"consensus:{proposal['consensus_id']}:{proposal['revision']}:{wanted.actor}"
    if tool == "swarm_vote":
        said: list[str] = [_SWARM_VOTES[arguments["vote"]]]
        yield "options_hash", about["options_hash"], arguments["options_hash"]
    else:
        said = list(arguments.get("choices") or ()) if arguments.get("response") is None else [arguments["response"]]
        if (known := uuid_of(arguments["consensus_id"])) is not None:
            yield "consensus_id", proposal["consensus_id"], str(known)
        yield from _given(arguments, proposal, conversation_id="conversation_id")
    counted = rules(proposal)
    choice = ordered(counted, said)
    yield "choice", wanted.choice, spoken(counted, choice)
    looked = {"options_hash": about["options_hash"], "response": list(choice)}
    yield from _exactly(about, confidence=arguments.get("confidence"), reason=arguments.get("reason") or "", **looked)


_Look = Callable[[str, Arguments, Wanted], Iterator[Look]]
_TOOLS: Mapping[str, Mapping[str, _Look]] = {
    "federation_send": {"message.send": _message},
    "federation_ask": {"message.send": _message},
    "federation_delegate": {"task.delegate": _handed_out},
    "federation_assign_role": {"role.assign": _assigned},
    "federation_claim_task": {"task.claim": _task_claimed},
    "federation_release_task": {"task.release": _task_released},
    "federation_complete_task": {"task.complete": _task_completed},
    "federation_cancel_task": {"task.cancel": _task_cancelled, "execution.cancel": _execution_cancelled},
    "federation_claim": {"claim.take": _taken},
    "federation_release": {"claim.release": _given_back},
    "federation_approve": {"task.decide": _decided},
    "federation_consensus_respond": {"consensus.vote": _voted},
    "swarm_vote": {"consensus.vote": _voted},
    "swarm_claim_task": {"task.claim": _task_claimed},
    "swarm_complete_task": {"task.complete": _task_completed},
}
# What these tools state is signed here; what others state the front door attests.
SIGNED = frozenset(_TOOLS)
_MAKE_TASKS = ("task.delegate", "role.assign")
_NAMES = {"federation_send": "message_id", "federation_ask": "message_id", "federation_delegate": "task_id"}
