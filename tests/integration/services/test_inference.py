"""What is asked of a model goes where the beginning of its prompt is warm."""

from sqlalchemy import select

from federation.services import inference
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
