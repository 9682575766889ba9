"""Questions to language models: requested as executions, each completion recorded once with the digest of its weights."""

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from federation.charter import charter
from federation.errors import InvalidInput, NotFound
from federation.placement.requirements import CHAT, Requirements
from federation.services import agents, cached_answers, executions, limits, schemas, tokens
from federation.services.charter import is_agent
from federation.services.needs import valid
from federation.settings import settings
from federation.store import event_log, outbox
from federation.store.context import context
from federation.store.models.agents import Agent
from federation.store.models.inference import ModelRun

COMPLETE = "federation.tasks.inference.complete"
ENGINE = CHAT
# The next one is llama.cpp's word for a seed of its own choice, with which no answer comes twice.
LARGEST_SEED = 2**32 - 2

# Model servers keep the prefix of a prompt in blocks of some tokens; prompts that begin alike for this long share most of what is dear.
PREFIX_CHARACTERS = 1000
LONGEST_ANSWER, MOST_STOPS, LONGEST_STOP = 4096, 8, 100
# Longest answer to a task that a node does.
TASK_TOKENS = 96
# So much of what is found about a task its model reads.
SOURCES, SOURCE_CHARACTERS = 3, 1_000

SYSTEM_PROMPTS: Mapping[str, str] = {
    "lead": "You are the Lead: you see the whole, assign work explicitly and decide. Answer briefly.",
    "developer": "You are the Developer: you claim work before you code and answer with what can be built. Answer briefly.",
    "analyst": "You are the Analyst: you check evidence and propose before anyone implements. Answer briefly.",
}
DEFAULT_PROMPT = "You are a careful assistant of an engineering team. Answer briefly."


def request(
    session: Session,
    prompt: str,
    *,
    before: Sequence[Mapping[str, str]] = (),
    raw: bool = False,
    max_tokens: int = 128,
    temperature: float = 0.0,
    seed: int = 0,
    stop: Sequence[str] = (),
    schema: Mapping[str, Any] | None = None,
    system: str | None = None,
    requirements: Mapping[str, Any] | None = None,
    cache: bool = False,
    conversation_id: str | None = None,
    remember: bool | None = None,
    execution_id: uuid.UUID | None = None,
) -> uuid.UUID:
    """Record the execution that asks a model, and return its id, which may be given.

    `before` is the talk before the prompt, as `role` (user, assistant) and `content`; a `raw` prompt is a text to go on with. Without `system` the
    role that a node is asked for says what the model is told that it is; without a model the charter says which one that role asks, else that of the
    asker. With `cache` an answer to nearly the same may be given again, and this one later, to the members of `conversation_id`, or to the asker.
    An agent's question that is not raw is to `remember` with its answer where that is good enough, unsaid where the setting says so.

    Raises InvalidInput, OverQuota, NotFound for a node or model that nobody knows, or a conversation that is not the asker's.
    """
    agents.require(prompt, "prompt")
    if not 1 <= max_tokens <= LONGEST_ANSWER:
        raise InvalidInput("max_tokens", max_tokens, f"1 to {LONGEST_ANSWER} tokens")
    if not 0 <= temperature <= 2:
        raise InvalidInput("temperature", temperature, "0 to 2")
    if not 0 <= seed <= LARGEST_SEED:
        raise InvalidInput("seed", seed, f"0 to {LARGEST_SEED}")
    if len(stop) > MOST_STOPS or not all(0 < len(word) <= LONGEST_STOP for word in stop):
        raise InvalidInput("stop", list(stop), f"at most {MOST_STOPS} texts of 1 to {LONGEST_STOP} characters")
    if raw and (before or system):
        raise InvalidInput("mode", "completion", "a prompt alone: a text that is gone on with has no system and no messages")
    if conversation_id is not None and not cache:
        raise InvalidInput("conversation_id", conversation_id, "cache=true beside it: it says for whose members an answer is kept")
    if schema is not None:
        schemas.require(schema)
    needs, by_role = with_model_of_role(session, valid(session, requirements or {}), asker=context(session).actor)
    needs = needs.model_copy(update={"engine": ENGINE})
    told = system or SYSTEM_PROMPTS.get(needs.role or "", DEFAULT_PROMPT)
    asked = {"role": "user", "content": prompt}
    messages = [asked] if raw else [{"role": "system", "content": told}, *(dict(turn) for turn in before), asked]
    if raw and remember:
        raise InvalidInput("remember", remember, "a question: what goes on with a text is no answer")
    keeps = not raw and is_agent(context(session).actor) and (settings().remember_answers if remember is None else remember)
    limits.inference_tokens(session, tokens_at_most(messages, max_tokens))
    kwargs = {"messages": messages, "max_tokens": max_tokens, "temperature": temperature, "seed": seed, "model": needs.model}
    kwargs |= {name: value for name, value in {"raw": raw, "stop": list(stop), "by_role": by_role, "remember": keeps}.items() if value}
    if schema is not None:
        kwargs["schema"] = schema
    if cache:
        same = {"system": told, "max_tokens": max_tokens, "seed": seed, "stop": list(stop), "schema": schema}
        same["needs"] = needs.model_dump(exclude_defaults=True)
        unfit = "it goes on with a text" if raw else "there is talk before the prompt" if before else None
        unfit = unfit or ("its temperature is above 0" if temperature else None)
        kwargs["cache"] = cached_answers.wanted(session, conversation_id, same, unfit=unfit)
    wanted, key = needs.model_dump(exclude_defaults=True), affinity(needs.model, messages)
    return outbox.record(session, COMPLETE, kwargs, requirements=wanted, affinity=key, execution_id=execution_id)


def with_model_of_role(session: Session, needs: Requirements, *, asker: str) -> tuple[Requirements, str | None]:
    """Return needs with the model that the charter names for the role of the node that they ask for, else for the asker's, and that role.

    Needs that name a model, and those of a role that has none, stay as they are, with None. Raises InvalidInput where no node ever had it.
    """
    if needs.model is not None or not any(rules.model for rules in charter().roles.values()):
        return needs, None
    # Operators and services are in no row.
    role = needs.role or session.scalar(select(Agent.role).where(Agent.name == asker))
    model = None if role is None else charter().model(role)
    if role is None or model is None:
        return needs, None
    try:
        return valid(session, {**needs.model_dump(exclude_defaults=True), "model": model}), role
    except NotFound as error:
        wanted = f"in [roles.{role}] of the charter a model that a node has, or `model` in the question: {error}"
        raise InvalidInput("model", model, wanted) from error


def affinity(model: str | None, messages: Sequence[Mapping[str, str]]) -> str:
    """Return the same word for the same beginning of a prompt to the same model: its keys and values are warm where it ran before."""
    beginning = "\0".join(message["content"] for message in messages)[:PREFIX_CHARACTERS]
    return hashlib.sha256(json.dumps([model, beginning]).encode()).hexdigest()[:32]


def tokens_at_most(messages: Sequence[Mapping[str, str]], max_tokens: int) -> int:
    """Return about how many tokens a model reads and writes for this at most."""
    return max_tokens + tokens.about(sum(len(message["content"]) for message in messages))


def tokens_of_task(description: str, parameters: Mapping[str, Any] | None, *, look_up: bool = False) -> int:
    """Return the same for a task that a node does, after it has looked something up or not."""
    found = tokens.about(SOURCES * SOURCE_CHARACTERS) if look_up else 0
    return found + tokens_at_most([{"content": description}, {"content": json.dumps(dict(parameters or {}))}], TASK_TOKENS)


def prompt_digest(messages: Sequence[Mapping[str, str]]) -> str:
    """Return the SHA-256 of a prompt in hexadecimal digits."""
    return hashlib.sha256(json.dumps(list(messages), sort_keys=True).encode()).hexdigest()


def record_run(session: Session, run: Mapping[str, Any], *, counted: int | None = None, remote: bool = False) -> bool:
    """Record the completion of the current execution, by a model or out of the cache; False if a former delivery recorded it.

    `counted` are the tokens that its asker was charged when it was recorded, which are corrected now; `remote`: what was asked left the federation.
    """
    who = context(session)
    if who.execution_id is None:
        raise InvalidInput("execution_id", None, "a completion that runs as an execution")
    if not executions.once(session, "model_run", {"model": run["model"], "completion_tokens": run["completion_tokens"]}):
        return False
    if counted is not None:
        limits.correct_inference_tokens(session, counted=counted, used=run["prompt_tokens"] + run["completion_tokens"])
    session.add(ModelRun(execution_id=who.execution_id, actor=who.actor, trace_id=who.trace_id, **run))
    # So that who reads it next has it.
    session.flush()
    payload = {key: run[key] for key in ("engine", "model", "model_digest", "node", "prompt_sha256", "prompt_tokens", "completion_tokens")}
    payload["cached"] = run.get("cached")
    payload["remote"] = remote
    event_log.append(session, "answer.reused" if payload["cached"] else "model.ran", f"execution:{who.execution_id}", payload=payload)
    return True


def tell_part(session: Session, *, number: int, characters: int) -> None:
    """Tell that the answer of the current execution has so many characters by now; what it says is for its asker, and not for the log.

    Raises Cancelled.
    """
    who, payload = context(session), {"number": number, "characters": characters}
    executions.tell(
        session, event_log.completed("model.part", f"execution:{who.execution_id}", payload=payload, actor=who.actor, trace_id=who.trace_id)
    )


def recorded(session: Session, execution_id: uuid.UUID) -> ModelRun | None:
    """Return the completion that an execution recorded, if it did."""
    return session.get(ModelRun, execution_id)
