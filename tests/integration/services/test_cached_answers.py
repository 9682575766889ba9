"""Answers that are kept for who asks again: for whom they are, within which bounds, and how they go; nobody here compares prompts."""

import uuid
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.exc import DBAPIError

from federation.errors import InvalidInput, NotFound
from federation.services import cached_answers, inference, messages
from federation.services.replay import replay
from federation.settings import Settings
from federation.store.models.cached_answers import CachedAnswer
from federation.store.models.events import Event
from federation.store.models.executions import Execution
from federation.transaction import Transactions, connect, reading

RUN = {"engine": "llamacpp", "model": "m", "model_digest": "d", "node": "aorus", "parameters": {}, "prompt_sha256": "0" * 64}
ANSWER = {"completion": "Paris.", "finish_reason": "stop", "prompt_tokens": 20, "completion_tokens": 2, "seconds": 0.1}
ROOM = "project-123"


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what the operator allows."""

    def given(**values: Any) -> None:
        monkeypatch.setattr(cached_answers, "settings", lambda: Settings(**{"cached_answers": 100, **values}))

    given()
    return given


@pytest.fixture
def room(transactions: Transactions) -> str:
    """A conversation of ada and bob."""
    with transactions.begin("ada") as session:
        messages.send(session, "hello", conversation_id=ROOM, to="bob")
    return ROOM


def asked(transactions: Transactions, who: str, prompt: str = "Which city?", **more: Any) -> tuple[uuid.UUID, dict[str, Any]]:
    """Return the execution that asks, and what it tells a node of the cache."""
    with transactions.begin(who) as session:
        identity = inference.request(session, prompt, **{"cache": True, **more})
        return identity, session.get_one(Execution, identity).kwargs.get("cache")


def kept(transactions: Transactions, who: str, prompt: str = "Which city?", *, run: Any = RUN, **more: Any) -> tuple[uuid.UUID, dict[str, Any]]:
    """Have a question answered, as a node does, and its answer kept."""
    identity, cache = asked(transactions, who, prompt, **more)
    with transactions.begin(who, execution_id=identity) as session:
        assert inference.record_run(session, {**run, **ANSWER})
        cached_answers.keep(session, prompt=prompt, vector=b"\0" * 1536, **cache)
    return identity, cache


def seen(transactions: Transactions, who: str, key: str) -> list[uuid.UUID]:
    with transactions.begin(who) as session:
        return [each.execution_id for each in cached_answers.kept(session, key)]


def there(transactions: Transactions) -> set[uuid.UUID]:
    with transactions.begin("test:hand") as session:
        return set(session.scalars(select(CachedAnswer.execution_id)))


def given_again(transactions: Transactions, who: str, answered: uuid.UUID, **more: Any) -> uuid.UUID:
    """Have a question answered by an answer that is kept, as a node does."""
    identity, _ = asked(transactions, who, **more)
    with transactions.begin(who, execution_id=identity) as session:
        cached_answers.use(session, answered)
        reused = {"execution_id": str(answered), "by": "ada", "similarity": 1.0, "age_s": 1.5}
        assert inference.record_run(session, {**RUN, **ANSWER, "prompt_tokens": 0, "completion_tokens": 0, "cached": reused})
    return identity


def a_day_passes(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE cached_answers SET created_at = created_at - interval '1 day'")


@pytest.mark.usefixtures("allow")
def test_members_have_what_was_answered_in_their_conversation_and_nobody_else(transactions: Transactions, room: str) -> None:
    answered, cache = kept(transactions, "ada", conversation_id=room)
    assert asked(transactions, "bob", conversation_id=room)[1] == cache
    assert {who: seen(transactions, who, cache["key"]) for who in ("ada", "bob", "dan")} == {"ada": [answered], "bob": [answered], "dan": []}
    with pytest.raises(NotFound, match="no conversation 'project-123'"):
        asked(transactions, "dan", conversation_id=room)
    with transactions.begin("dan") as session:
        assert session.scalars(select(CachedAnswer)).all() == []


@pytest.mark.usefixtures("allow")
def test_what_was_asked_in_no_conversation_is_for_who_asked_and_for_no_conversation(transactions: Transactions, room: str) -> None:
    answered, cache = kept(transactions, "ada")
    keys = {asked(transactions, "bob")[1]["key"], asked(transactions, "ada", conversation_id=room)[1]["key"]}
    assert cache["key"] not in keys
    assert [seen(transactions, who, cache["key"]) for who in ("ada", "bob")] == [[answered], []]


OTHERS: list[dict[str, Any]] = [
    {"system": "Answer in French."},
    {"max_tokens": 7},
    {"seed": 7},
    {"stop": ["."]},
    {"schema": {"type": "object"}},
    {"requirements": {"role": "developer"}},
    {"requirements": {"model": "SmolLM2-135M-Instruct"}},
]


@pytest.mark.usefixtures("allow")
@pytest.mark.parametrize("other", OTHERS, ids=lambda other: next(iter(other)))
def test_another_argument_is_another_question(transactions: Transactions, other: dict[str, Any]) -> None:
    _, cache = kept(transactions, "ada")
    assert asked(transactions, "ada")[1]["key"] == cache["key"] != asked(transactions, "ada", **other)[1]["key"]


UNFIT: list[tuple[dict[str, Any], str]] = [
    ({"temperature": 0.7}, "its temperature is above 0"),
    ({"before": [{"role": "user", "content": "My name is Ada."}]}, "there is talk before the prompt"),
    ({"raw": True}, "it goes on with a text"),
]


@pytest.mark.usefixtures("allow")
@pytest.mark.parametrize(("more", "why"), UNFIT)
def test_what_is_none_for_a_cache_is_asked_all_the_same_and_told_so(transactions: Transactions, more: dict[str, Any], why: str) -> None:
    assert asked(transactions, "ada", **more)[1] == {"left_out": why}


def test_nothing_is_kept_unless_the_operator_and_who_asks_want_it(transactions: Transactions, room: str, allow: Callable[..., None]) -> None:
    allow(cached_answers=0)
    assert asked(transactions, "ada")[1] == {"left_out": "the operator has not allowed it (FEDERATION_CACHED_ANSWERS)"}
    allow()
    assert asked(transactions, "ada", cache=False)[1] is None
    with pytest.raises(InvalidInput, match="wants cache=true beside it"):
        asked(transactions, "ada", cache=False, conversation_id=room)


def test_what_was_used_least_lately_makes_room_in_a_conversation_and_among_all(
    transactions: Transactions, room: str, allow: Callable[..., None]
) -> None:
    allow(cached_answers=4, cached_answers_per_conversation=2)
    one, two = (kept(transactions, "ada", prompt, conversation_id=room)[0] for prompt in ("one", "two"))
    given_again(transactions, "bob", one, conversation_id=room)
    three, _ = kept(transactions, "bob", "three", conversation_id=room)
    assert there(transactions) == {one, three}
    of_ada, of_eve, of_eve_too = (kept(transactions, who, prompt)[0] for who, prompt in (("ada", "a"), ("eve", "b"), ("eve", "c")))
    assert there(transactions) == {three, of_ada, of_eve, of_eve_too}
    with transactions.begin("test:hand") as session:
        dropped = session.scalars(select(Event.payload["execution_ids"]).where(Event.type == "answer.dropped").order_by(Event.sequence))
        assert list(dropped) == [[str(two)], [str(one)]]


def test_what_is_too_old_is_not_given_again_and_beat_removes_it(
    transactions: Transactions, database: str, room: str, allow: Callable[..., None]
) -> None:
    _, cache = kept(transactions, "ada", conversation_id=room)
    a_day_passes(database)
    young, _ = kept(transactions, "ada", "Which river?", conversation_id=room)
    assert there(transactions) == {young}, "who adds one removes what is too old"
    a_day_passes(database)
    assert seen(transactions, "ada", cache["key"]) == []
    allow(cached_answer_s=2 * 86_400)
    assert seen(transactions, "ada", cache["key"]) == [young]
    allow()
    with transactions.begin("service:beat") as session:
        assert cached_answers.drop(session) == 1
    assert there(transactions) == set()


def test_lowered_bounds_hold_when_beat_looks(transactions: Transactions, allow: Callable[..., None]) -> None:
    for prompt in ("one", "two", "three"):
        kept(transactions, "ada", prompt)
    allow(cached_answers=1)
    with transactions.begin("service:beat") as session:
        assert cached_answers.drop(session) == 2
    allow(cached_answers=0)
    with transactions.begin("service:beat") as session:
        assert cached_answers.drop(session) == 1


@pytest.mark.usefixtures("allow")
def test_the_same_of_the_same_weights_is_kept_once_and_that_of_others_beside_it(transactions: Transactions) -> None:
    first, cache = kept(transactions, "ada")
    kept(transactions, "ada")
    assert there(transactions) == {first}
    of_others, _ = kept(transactions, "ada", run={**RUN, "model_digest": "another"})
    assert seen(transactions, "ada", cache["key"]) == [of_others, first]


@pytest.mark.usefixtures("allow")
def test_it_goes_with_the_execution_that_it_came_from(transactions: Transactions, database: str, room: str) -> None:
    alone, _ = kept(transactions, "ada")
    among_members, _ = kept(transactions, "ada", conversation_id=room)
    with psycopg.connect(database) as connection:
        connection.execute("DELETE FROM executions WHERE id = %s", [alone])
    assert there(transactions) == {among_members}
    with psycopg.connect(database) as connection:
        [(conversation,)] = connection.execute(
            "SELECT confdeltype FROM pg_constraint WHERE conname = 'fk_cached_answers_conversation_id_conversations'"
        )
    assert conversation in ("c", b"c"), "it goes with the conversation too"


@pytest.mark.usefixtures("allow")
def test_nobody_puts_words_into_a_cache_that_are_not_recorded_as_an_answer_to_him(transactions: Transactions, room: str) -> None:
    answered, cache = kept(transactions, "ada", conversation_id=room)
    mine, _ = asked(transactions, "bob", conversation_id=room)
    with transactions.begin("bob", execution_id=mine) as session:
        assert inference.record_run(session, {**RUN, **ANSWER})
    others, _ = asked(transactions, "bob", conversation_id=room)
    given_again(transactions, "bob", answered, conversation_id=room)
    values = {"conversation_id": room, "key": cache["key"], "prompt": "Which town?", "vector": b"", "engine": "e", "model": "m"}
    for execution_id, words in ((mine, "Berlin."), (answered, "Paris."), (others, "Paris.")):
        with pytest.raises(DBAPIError, match="row-level security"), transactions.begin("bob") as session:
            session.execute(insert(CachedAnswer).values(execution_id=execution_id, completion=words, **values))
    with pytest.raises(DBAPIError, match="permission denied"), transactions.begin("bob") as session:
        session.execute(update(CachedAnswer).values(completion="Berlin."))
    with pytest.raises(DBAPIError, match="permission denied"), transactions.begin("bob") as session:
        session.execute(delete(CachedAnswer))


@pytest.fixture
def auditor(postgres: Any, database: str) -> Any:
    engine: Engine = connect(postgres.as_role("federation_auditor", database))
    yield engine
    engine.dispose()


def test_replay_makes_what_is_kept_and_what_was_given_again(
    transactions: Transactions, room: str, allow: Callable[..., None], auditor: Engine
) -> None:
    allow(cached_answers=2)
    for prompt in ("one", "two", "three"):
        answered, cache = kept(transactions, "ada", prompt, conversation_id=room)
    again = given_again(transactions, "bob", answered, conversation_id=room)
    with transactions.begin("bob") as session:
        [event] = session.scalars(select(Event).where(Event.type == "answer.reused"))
        assert (event.stream, event.payload["cached"]["execution_id"]) == (f"execution:{again}", str(answered))
        assert cache["key"] not in str(event.payload)
    with reading(auditor) as session:
        assert replay(session).differences == []
