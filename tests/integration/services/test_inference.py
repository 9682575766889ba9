"""What is asked of a model goes where the beginning of its prompt is warm, and the log says if that is elsewhere."""

import pytest
from sqlalchemy import select

from federation.services import inference
from federation.store.models.events import Event
from federation.store.models.executions import Execution


def test_prompts_that_begin_alike_for_one_model_share_their_affinity(transactions) -> None:
    book = "a chapter, " * 200
    asked = [
        (book + "who?", None),
        (book + "where?", None),
        (book + "who?", "SmolLM2-135M-Instruct"),
        ("who?", None),
    ]
    with transactions.begin("ada") as session:
        ids = [inference.request(session, prompt, requirements={"model": model} if model else None) for prompt, model in asked]
        of = {row.id: row.affinity for row in session.execute(select(Execution.id, Execution.affinity))}
    first, second, *others = (of[identity] for identity in ids)
    assert first == second
    assert None not in others
    assert len({first, *others}) == 3


@pytest.mark.parametrize("remote", [True, False])
def test_the_log_says_what_was_asked_of_a_model_elsewhere(transactions, remote: bool) -> None:
    with transactions.begin("ada") as session:
        asked = inference.request(session, "why")
    run = {"engine": "e", "model": "m", "model_digest": "d", "node": "aorus", "parameters": {}, "prompt_sha256": "0" * 64}
    answer = {"completion": "So.", "finish_reason": "stop", "prompt_tokens": 20, "completion_tokens": 2, "seconds": 0.1}
    with transactions.begin("ada", execution_id=asked) as session:
        assert inference.record_run(session, run | answer, remote=remote)
    with transactions.begin("ada") as session:
        assert session.scalar(select(Event.payload["remote"]).where(Event.type == "model.ran")) is remote
