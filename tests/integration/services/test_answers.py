"""Questions to models with their answers, as they are kept: one's own, and only what was answered to the end."""

import uuid
from typing import Any

import pytest
from sqlalchemy import text

from federation.errors import InvalidInput, NotFound
from federation.services import answers, inference, limits, memories
from federation.settings import settings
from federation.store.models.executions import Execution
from federation.transaction import Transactions


def asked(transactions: Transactions, who: str, completion: str | None, *, finish_reason: str = "stop", **more: Any) -> uuid.UUID:
    with transactions.begin(who) as session:
        execution_id = inference.request(session, "How do we deploy?", **more)
    if completion is not None:
        run = {"engine": "e", "model": "m", "model_digest": "d", "node": "aorus", "parameters": {}, "prompt_sha256": "0" * 64}
        answer = {"completion": completion, "finish_reason": finish_reason, "prompt_tokens": 20, "completion_tokens": 2, "seconds": 0.1}
        with transactions.begin(who, execution_id=execution_id) as session:
            assert inference.record_run(session, run | answer)
    return execution_id


def test_an_answer_is_kept_with_its_question_and_found_by_both(transactions: Transactions) -> None:
    execution_id = asked(transactions, "bob", "By the pipeline. ")
    with transactions.begin("bob") as session:
        said = answers.pair(session, execution_id)
        assert said == "Asked: How do we deploy?\nAnswered by m: By the pipeline."
        memories.remember(session, f"Of use for newcomers\n\n{said}")
        for query in ("deploy", "pipeline", "newcomers"):
            assert len(memories.by_words(session, query, limit=5)) == 1


@pytest.mark.parametrize(
    ("completion", "finish_reason", "told"),
    [(None, "", "that was answered"), (" ", "stop", "was empty"), ("By the", "length", "cut off by max_tokens")],
)
def test_what_is_no_whole_answer_is_not_kept(transactions: Transactions, completion: str | None, finish_reason: str, told: str) -> None:
    execution_id = asked(transactions, "bob", completion, finish_reason=finish_reason)
    with pytest.raises(InvalidInput, match=told), transactions.begin("bob") as session:
        answers.pair(session, execution_id)


def test_anothers_question_is_as_one_that_never_was(transactions: Transactions) -> None:
    execution_id = asked(transactions, "bob", "By the pipeline")
    with transactions.begin("bob") as session:
        settling = memories.remember(session, "not a question")
        assert settling.new
        other = session.scalar(text("SELECT id FROM executions WHERE task_name = 'federation.tasks.memories.settle'"))
    for who, one in (("eve", execution_id), ("bob", other), ("bob", uuid.uuid4())):
        with pytest.raises(NotFound, match="no answer"), transactions.begin(who) as session:
            answers.pair(session, one)


GOOD = "By the pipeline: push to main, wait for two approvals, and press the button. The VPN must be up, or the last step fails without a word."


@pytest.mark.parametrize(
    ("completion", "finish_reason", "why"),
    [
        (GOOD, "stop", None),
        ("By the pipeline.", "stop", None),
        ("By the", "length", "the answer was cut off by max_tokens"),
        (" ", "stop", "the answer was empty"),
        ("How do we deploy? We deploy how we do.", "stop", "the answer says nothing that the question does not"),
        ("I'm sorry, but I cannot help with that.", "stop", "the answer is an excuse"),
        ("As an AI language model I have no pipeline.", "stop", "the answer is an excuse"),
        ("I do not know how you deploy.", "stop", "the answer is an excuse"),
        ("I do it by the pipeline.", "stop", None),
        ("By the pipeline of the team. " * 10, "stop", "the answer repeats itself"),
        (" ".join(map(str, range(2_000))), "stop", "question and answer have more than 4000 characters"),
    ],
)
def test_an_answer_that_is_good_enough_is_kept_by_itself(transactions: Transactions, completion: str, finish_reason: str, why: str | None) -> None:
    execution_id = asked(transactions, "bob", completion, finish_reason=finish_reason)
    for _ in range(2):
        with transactions.begin("bob", execution_id=execution_id) as session:
            assert answers.keep(session, execution_id) == why
    for who, number in (("bob", 0 if why else 1), ("eve", 0)):
        with transactions.begin(who) as session:
            kept = memories.latest(session).memories
            assert len(kept) == number
            if kept:
                assert (kept[0].memory_id, kept[0].visibility, kept[0].audience) == (answers.kept(session, execution_id), "nobody", "bob")


def test_where_there_is_no_room_the_answer_is_not_lost(transactions: Transactions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "settings", lambda: _with(memories_per_agent=1))
    with transactions.begin("bob") as session:
        memories.remember(session, "the one that there is room for")
    execution_id = asked(transactions, "bob", GOOD)
    with transactions.begin("bob", execution_id=execution_id) as session:
        assert "1" in (answers.keep(session, execution_id) or "")
    with transactions.begin("bob") as session:
        assert [each.content for each in memories.latest(session).memories] == ["the one that there is room for"]
        assert inference.recorded(session, execution_id) is not None


@pytest.mark.parametrize(
    ("who", "setting", "said", "is_to_be_kept"),
    [
        ("bob", False, {}, False),
        ("bob", False, {"remember": True}, True),
        ("bob", True, {}, True),
        ("bob", True, {"remember": False}, False),
        ("bob", True, {"raw": True}, False),
        ("cli:operator", True, {}, False),
    ],
)
def test_question_setting_and_who_asks_say_whether_it_is_to_be_kept(
    transactions: Transactions, monkeypatch: pytest.MonkeyPatch, who: str, setting: bool, said: dict[str, Any], is_to_be_kept: bool
) -> None:
    monkeypatch.setattr(inference, "settings", lambda: _with(remember_answers=setting))
    execution_id = asked(transactions, who, None, **said)
    with transactions.begin(who) as session:
        assert session.get_one(Execution, execution_id).kwargs.get("remember", False) is is_to_be_kept


def test_what_is_gone_on_with_is_no_answer_to_keep(transactions: Transactions) -> None:
    with pytest.raises(InvalidInput, match="what goes on with a text is no answer"):
        asked(transactions, "bob", None, raw=True, remember=True)


def _with(**changed: Any) -> Any:
    return settings().model_copy(update=changed)
