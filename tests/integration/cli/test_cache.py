"""`federation cache` as an operator uses it: what is kept is shown, made inert, and what is wrong is dropped."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from federation.services import cached_answers, inference
from federation.settings import Settings
from federation.transaction import Transactions

RUN = {"engine": "llamacpp", "model": "m", "model_digest": "d", "node": "aorus", "parameters": {}, "prompt_sha256": "0" * 64}
ANSWER = {"completion": "Lyon \x1b[31m", "finish_reason": "stop", "prompt_tokens": 20, "completion_tokens": 2, "seconds": 0.1}


@pytest.fixture
def kept(transactions: Transactions, monkeypatch: pytest.MonkeyPatch) -> list[uuid.UUID]:
    """Two answers that are kept: one for the commons, one for bob alone."""
    monkeypatch.setattr(cached_answers, "settings", lambda: Settings(cached_answers=10))
    ids = []
    for conversation_id in ("commons", None):
        with transactions.begin("bob") as session:
            ids.append(inference.request(session, "Which [red]city?", cache=True, conversation_id=conversation_id))
        with transactions.begin("bob", execution_id=ids[-1]) as session:
            assert inference.record_run(session, {**RUN, **ANSWER})
            cached_answers.keep(session, key=str(conversation_id), conversation_id=conversation_id, prompt="Which [red]city?", vector=b"")
    return ids


def test_an_operator_sees_what_is_kept_and_drops_what_is_wrong(
    federation: Callable[..., Any], surroundings: dict[str, str], postgres: Any, database: str, kept: list[uuid.UUID]
) -> None:
    surroundings |= {
        "FEDERATION_DATABASE_URL": postgres.as_role("federation_app", database),
        "FEDERATION_DATABASE_SERVICE_URL": postgres.as_role("federation_service", database),
    }
    told = json.loads(federation("cache", "list", "--json").stdout)["answers"]
    assert [(one["execution_id"], one["conversation_id"], one["by"]) for one in told] == [
        (str(kept[1]), None, "bob"),
        (str(kept[0]), "commons", "bob"),
    ]
    shown = federation("cache", "list").stdout
    assert "\x1b" not in shown
    assert federation("cache", "list", "--limit", "1").stderr == "There may be more: --limit 2\n"
    assert federation("cache", "drop", str(kept[0])).stdout == "Dropped: 1.\n"
    again = federation("cache", "drop", str(kept[1]), str(kept[0]))
    assert (again.returncode, f"no cached answer '{kept[0]}'" in again.stderr) == (1, True)
    assert [federation("cache", "drop").returncode, federation("cache", "drop", "--all", str(kept[1])).returncode] == [2, 2]
    assert federation("cache", "drop", "--all").stdout == "Dropped: 1.\n"
    assert federation("cache", "list").stdout == "No answer is kept.\n"
