"""Calls of tools drawn from the tools' own schemas: right ones, and ones with something wrong in them; judges each answer."""

import json
import math
import re
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

import httpx2
import jsonschema
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

ERAS = ("2025-06-18", "2026-07-28")
# Words that no answer has: of a trace, of the program's inside, of SQL; an answer that repeats what it was given is not meant.
INSIDE = re.compile(
    r"Traceback|File \"|site-packages|\.py\b|psycopg|sqlalchemy|pydantic|fastmcp|asyncio|<class |object at 0x|Error calling tool|Internal|"
    r"\b(?:SELECT|INSERT INTO|UPDATE \w+ SET|FROM \w+ WHERE|RETURNING)\b|postgresql://|activemq://",
)
# Waiting is tried elsewhere, and would cost a minute a call.
LONGEST_WAIT_S = 0.01


@dataclass(frozen=True, slots=True)
class Known:
    """Stands for something that exists when the call is made: the number-th of its kind."""

    argument: str
    number: int


class Nothing:
    """Stands for an argument that is left out."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A call as it was drawn; what stands for something is put in its place when it is made."""

    agent: str
    era: str
    tool: str
    arguments: Any


ANYTHING: SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**80), 2**80)
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
_TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=60).filter(lambda text: bool(text.strip()))
# At, and one beyond, what texts may have.
_LENGTHS = st.sampled_from([999, 1_000, 1_001, 99_999, 100_000, 100_001])


def fitting(schema: Mapping[str, Any]) -> SearchStrategy[Any]:
    """Return values that an argument of this schema takes, as far as the schema tells."""
    if "anyOf" in schema:
        return st.one_of(*map(fitting, schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    return _OF_TYPE[schema["type"]](schema)


def _string(schema: Mapping[str, Any]) -> SearchStrategy[Any]:
    pattern = schema.get("pattern", "")
    if schema.get("format") == "uuid":
        return st.uuids().map(str)
    if schema.get("format") == "date-time":
        return st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.isoformat())
    if pattern == "^/":
        return _TEXTS.map(lambda text: f"/{text}")
    if pattern.startswith("^"):
        return st.from_regex(pattern, fullmatch=True)
    long = st.tuples(_TEXTS, _LENGTHS).map(lambda drawn: (drawn[0] * drawn[1])[: drawn[1]])
    return _often(_TEXTS, long, one_of=20)


def _number(schema: Mapping[str, Any]) -> SearchStrategy[Any]:
    low, high = schema.get("minimum", 0), schema.get("maximum", schema.get("exclusiveMaximum", 2**63) - 1)
    if schema["type"] == "integer":
        return st.integers(low, high) | st.integers(low, min(low + 5, high))
    return st.floats(low, high, allow_nan=False)


_OF_TYPE: Mapping[str, Any] = {
    "null": lambda _: st.none(),
    "boolean": lambda _: st.booleans(),
    "string": _string,
    "integer": _number,
    "number": _number,
    "array": lambda schema: st.lists(fitting(schema["items"]), max_size=min(schema.get("maxItems", 5), 5)),
    "object": lambda _: st.dictionaries(_TEXTS, ANYTHING, max_size=4),
}


def _often(likely: SearchStrategy[Any], seldom: SearchStrategy[Any], *, one_of: int) -> SearchStrategy[Any]:
    """Return the seldom one once in so many; Hypothesis counts a strategy that it is given several times once."""
    return st.sampled_from(range(one_of)).flatmap(lambda drawn: seldom if drawn == one_of - 1 else likely)


def arguments(schema: Mapping[str, Any], known: frozenset[str]) -> SearchStrategy[Any]:
    """Return arguments of a tool: two of three fit, the others have one thing wrong; some are no arguments at all."""
    required = set(schema.get("required", ()))

    def one(name: str, about: Mapping[str, Any]) -> SearchStrategy[Any]:
        own = fitting(about)
        if name in known:
            own = _often(st.builds(Known, st.just(name), st.integers(0, 1000)), own, one_of=8)
        return own if name in required else _often(st.just(Nothing), own, one_of=4)

    fit = st.fixed_dictionaries({name: one(name, about) for name, about in schema["properties"].items()})
    names = st.sampled_from([*schema["properties"], "no_such_argument"])
    changed = st.tuples(fit, names, _often(ANYTHING, st.just(Nothing), one_of=5)).map(lambda drawn: {**drawn[0], drawn[1]: drawn[2]})
    return _often(fit, _often(changed, ANYTHING, one_of=10), one_of=3)


def calls(schemas: Mapping[str, Mapping[str, Any]], agents: tuple[str, ...], known: frozenset[str]) -> SearchStrategy[Drawn]:
    """Return calls of all these tools by these agents."""
    of = {tool: arguments(schema, known) for tool, schema in schemas.items()}
    return st.sampled_from(sorted(schemas)).flatmap(
        lambda tool: st.builds(Drawn, st.sampled_from(agents), st.sampled_from(ERAS), st.just(tool), of[tool])
    )


@dataclass
class Fuzzer:
    """Makes calls over real HTTP and judges the answers; what they name may be named in later calls."""

    url: str
    tokens: Mapping[str, str]
    secrets: tuple[str, ...]
    outputs: Mapping[str, jsonschema.Draft202012Validator]
    pool: dict[str, list[Any]]
    # The tools that wait where nobody says how long.
    patient: frozenset[str]
    taken: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.http = httpx2.Client(timeout=60)

    def call(self, drawn: Drawn) -> bool:
        """Make a call; return whether it was taken. Raises AssertionError for an answer that no caller may get."""
        arguments = self._resolved(drawn.tool, drawn.arguments)
        meta = {f"io.modelcontextprotocol/{key}": value for key, value in {"protocolVersion": drawn.era, "clientCapabilities": {}}.items()}
        request = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": drawn.tool, "arguments": arguments, "_meta": meta},
        }
        headers = {
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
            "Authorization": f"Bearer {self.tokens[drawn.agent]}",
            "mcp-protocol-version": drawn.era,
            "mcp-method": "tools/call",
            "mcp-name": drawn.tool,
        }
        sent = json.dumps(request)
        answer = self.http.post(f"{self.url}/mcp", content=sent, headers=headers)
        told = f"{drawn.tool}({sent[:2000]}) → {answer.status_code} {answer.text[:2000]}"
        assert answer.status_code in {200, 400}, told
        body = _body(answer.text)
        assert body is not None, told
        assert not [secret for secret in self.secrets if secret in answer.text], told
        result = body.get("result", {})
        if "error" in body or result.get("isError"):
            self.refused[drawn.tool] += 1
            words = body["error"]["message"] if "error" in body else result["content"][0]["text"]
            assert words, told
            leaked = {found.group() for found in INSIDE.finditer(self._without_names(json.dumps(body))) if found.group() not in sent}
            assert not leaked, (leaked, told)
            return False
        self.taken[drawn.tool] += 1
        try:
            self.outputs[drawn.tool].validate(result["structuredContent"])
        except jsonschema.ValidationError as error:
            raise AssertionError(f"{error.message}: {told}") from error
        self._learn(result["structuredContent"])
        return True

    def _without_names(self, answer: str) -> str:
        """Return an answer without what is called so here: a refusal lists what there is, such as an artifact `src/auth.py`."""
        for name in {each for known in self.pool.values() for each in known if isinstance(each, str) and INSIDE.search(each)}:
            answer = answer.replace(json.dumps(name)[1:-1], "")
        return answer

    def _resolved(self, tool: str, drawn: Any) -> Any:
        if not isinstance(drawn, dict):
            return drawn
        made = {name: value for name, value in drawn.items() if value is not Nothing}
        for name, value in made.items():
            if isinstance(value, Known):
                # What only a few of the things of its kind can do has those in a pool of its own.
                there = self.pool.get(f"{tool} {value.argument}") or self.pool.get(value.argument) or [str(uuid.UUID(int=value.number))]
                made[name] = there[value.number % len(there)]
        # A claim has a token of its own, which is seldom found by chance.
        pairs = self.pool.get("claim", [])
        if "task_id" in made and isinstance(fencing := drawn.get("fencing_token"), Known) and fencing.number % 2 and pairs:
            made["task_id"], made["fencing_token"] = pairs[fencing.number % len(pairs)]
        # And so has a vote its hash.
        votes = list(zip(self.pool.get("consensus_id", []), self.pool.get("options_hash", []), strict=False))
        if "consensus_id" in made and isinstance(told := drawn.get("options_hash"), Known) and told.number % 4 and votes:
            made["consensus_id"], made["options_hash"] = votes[told.number % len(votes)]
        for name, argument in (("action_claim", "fencing_token"), ("action_hash", "options_hash")):
            if "action_id" in made and isinstance(known := drawn.get(argument), Known) and known.number % 2:
                made["action_id"], made[argument] = self.pool[name][known.number % len(self.pool[name])]
        if "wait_s" in made or tool in self.patient:
            made["wait_s"] = _soon(made.get("wait_s"))
        return made

    def _learn(self, answer: Mapping[str, Any]) -> None:
        for name, arguments in _NAMED_BY.items():
            if (value := answer.get(name)) is not None:
                for argument in arguments:
                    # The latest of many: what is long gone is seldom of interest.
                    self.pool[argument] = [*self.pool.get(argument, [])[-40:], value]


_NAMED_BY = {
    "task_id": ("task_id",),
    "execution_id": ("task_id",),
    "run_id": ("run_id", "task_id"),
    "message_id": ("reply_to",),
    "request_id": ("request_id", "reply_to", "thread"),
    "conversation_id": ("conversation_id",),
    "session_id": ("session_id",),
    "action_id": ("action_id",),
    "cursor": ("after",),
}


def _soon(value: Any) -> Any:
    """Return a wait that is over at once in place of one that a tool takes; what it refuses stays."""
    if isinstance(value, bool):
        return value
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        return LONGEST_WAIT_S if value is None else value
    return LONGEST_WAIT_S if math.isfinite(seconds) and 0 < seconds <= 600 else value


def _body(text: str) -> dict[str, Any] | None:
    """Return the answer in a body of JSON, or the last event of a stream; None if it is neither."""
    events = [line.removeprefix("data:") for line in re.split(r"\r\n|\r|\n", text) if line.startswith("data:")] or [text]
    try:
        found = json.loads(events[-1])
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
