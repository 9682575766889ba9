"""Questions to models with their answers, as they are kept: one's own, and only what was answered to the end."""

import uuid

import pytest
from sqlalchemy import text

from federation.errors import InvalidInput, NotFound
from federation.services import answers, inference, memories
from federation.transaction import Transactions


def asked(transactions: Transactions, who: str, completion: str | None, *, finish_reason: str = "stop") -> uuid.UUID:
    with transactions.begin(who) as session:
        execution_id = inference.request(session, "How do we deploy?")
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
