"""What is asked of a model goes where the beginning of its prompt is warm, and the log says if that is elsewhere."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from federation.charter import charter_text
from federation.errors import InvalidInput
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


def test_a_schema_that_says_nothing_is_one_too(transactions) -> None:
    with transactions.begin("ada") as session:
        asked = [session.get_one(Execution, inference.request(session, "why", schema=schema)).kwargs for schema in ({}, None)]
    assert asked[0]["schema"] == {}
    assert "schema" not in asked[1]


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


def with_models(**models: str) -> str:
    """Return the charter in which these roles have models."""
    text = charter_text()
    for role, model in models.items():
        text = text.replace(f"[roles.{role}]\n", f'[roles.{role}]\nmodel = "{model}"\n')
    return text


SMALL = "SmolLM2-135M-Instruct"
CHOICES: list[tuple[str, dict[str, Any], str | None, str | None]] = [
    # Who asks, what of a node, which model that is, and for which role.
    ("ada", {}, None, None),
    ("bob", {}, SMALL, "developer"),
    ("bob", {"model": "all-MiniLM-L6-v2"}, "all-MiniLM-L6-v2", None),
    ("ada", {"role": "developer"}, SMALL, "developer"),
    ("bob", {"role": "lead"}, None, None),
    ("cli:tester", {}, None, None),
]


@pytest.mark.parametrize(("who", "needs", "model", "role"), CHOICES)
def test_role_asks_the_model_that_the_charter_names_unless_the_question_names_one(
    transactions, chartered: Callable[[str], None], who: str, needs: dict[str, Any], model: str | None, role: str | None
) -> None:
    chartered(with_models(developer=SMALL))
    with transactions.begin(who) as session:
        identity = inference.request(session, "why", requirements=needs)
        asked = session.get_one(Execution, identity)
    assert (asked.requirements.get("model"), asked.kwargs["model"], asked.kwargs.get("by_role")) == (model, model, role)


def test_model_of_a_role_that_no_node_ever_had_is_told_with_its_place(transactions, chartered: Callable[[str], None]) -> None:
    chartered(with_models(developer="Nowhere-70B"))
    wanted = r"model: got 'Nowhere-70B', wants in \[roles.developer\] of the charter a model that a node has"
    with pytest.raises(InvalidInput, match=wanted), transactions.begin("bob") as session:
        inference.request(session, "why")
