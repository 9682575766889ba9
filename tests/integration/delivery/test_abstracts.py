"""Summaries by a model that may write them: llama.cpp's real server, whose small model cannot summarise, is checked, and killed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from federation.charter import charter_text
from federation.engines import smollm2
from federation.engines.grounding import unsupported
from federation.services import agents, messages, summaries
from tests.model_servers import MODEL, LlamaServer, llama_server

World = Any

TALKS = (
    (
        ("ada", "The memory of the worker grows with each request."),
        ("bob", "The profile says that the cache has no limit. It grows with each request, and nothing removes what is old in it."),
        ("ada", "Then we give the cache a limit of 10,000 entries."),
        ("bob", "I will do it today. The worker is restarted at night until that is done."),
        ("ada", "Good. Tell us when it is done, so that the restarts can end."),
    ),
    (
        ("ada", "The worker grows by 200 MB an hour. Who can look at its memory?"),
        ("bob", "I will run a profile of the worker tonight."),
        ("bob", "The profile shows that the cache has no limit, and that it holds 180 MB."),
        ("ada", "Then the cache gets a limit, and we look at it again on Friday."),
    ),
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LlamaServer]:
    with llama_server(tmp_path, window=1024) as started:
        yield started


def summarised(world: World, *talk: tuple[str, str]) -> Any:
    """Say this in a conversation, have it summarised, and return the row and what was said."""
    for name, content in talk:
        with world.transactions.begin(name) as session:
            messages.send(session, content, conversation_id="talk")
    with world.transactions.begin("ada") as session:
        asked = summaries.request(session, "talk")
    assert asked is not None
    world.result(asked.execution_id, within_s=240)
    with world.transactions.begin("ada") as session:
        return summaries.read(session, "talk")[-1]


def team(world: World, *servers: LlamaServer, may: bool = True, charter: str | None = None) -> None:
    entries = [{**server.entry, "summarises": may} for server in servers]
    environment = {} if charter is None else {"FEDERATION_CHARTER": charter}
    world.worker(world.node("summarising", engines=["minilm"], servers=entries), **environment)
    with world.transactions.begin("cli:tester") as session:
        for name in ("ada", "bob", "eve"):
            agents.add(session, name, "lead")
    with world.transactions.begin("ada") as session:
        messages.send(session, "Join us.", conversation_id="talk", to="bob")


def test_what_a_model_writes_is_taken_or_kept_out_with_the_reason(world: World, server: LlamaServer) -> None:
    team(world, server)
    for talk in TALKS:
        made = summarised(world, *talk)
        said = "\n".join(f"{name}: {content}" for name, content in talk)
        if made.method == "abstractive":
            assert (made.model, made.rejected) == (MODEL, None)
            assert unsupported(made.text, said, names=("ada", "bob", "eve")) == []
            assert len(made.text) < len(said)
        else:
            assert (made.method, made.model) == ("extractive", "all-MiniLM-L6-v2")
            assert made.rejected
            assert made.rejected.startswith(("the model wrote", "the model named what was not said: ", "what the model wrote is no shorter"))
            assert all(line.partition(": ")[2] in said for line in made.text.splitlines())
        assert made.message_ids
    digests = dict(world.rows("SELECT method, model_digest FROM summaries"))
    assert digests.get("abstractive", smollm2.checked().digest) == smollm2.checked().digest
    # The log does not tell what the model said of it.
    told = world.rows("SELECT payload FROM events WHERE type = 'conversation.summarised'")
    assert all("rejected" not in payload and len(payload["rejected_sha256"] or "0" * 64) == 64 for (payload,) in told)


def test_what_is_too_long_for_the_model_or_asked_in_vain_is_extracted_with_the_reason(world: World, server: LlamaServer) -> None:
    team(world, server)
    long = summarised(world, *(("ada", f"Finding {number}: the cache of the parser grows with each request. " * 4) for number in range(30)))
    assert (long.method, "1024" in (long.rejected or "")) == ("extractive", True), long.rejected
    server.kill()
    asked = summarised(world, *TALKS[0])
    assert asked.method == "extractive"
    assert "Connection refused" in (asked.rejected or ""), asked.rejected


def test_a_server_that_may_not_summarise_is_not_asked(world: World, server: LlamaServer) -> None:
    team(world, server, may=False)
    made = summarised(world, *TALKS[0])
    assert (made.method, made.rejected) == ("extractive", None)
    assert server.counted("prompt_tokens_total") == 0


def test_what_no_model_of_a_node_writes_now_is_asked_of_another_node_that_has_one(world: World, server: LlamaServer, tmp_path: Path) -> None:
    team(world, server)
    with llama_server(tmp_path, name="there", model="There-1B", window=1024) as there:
        other = world.node("other", engines=["minilm"], servers=[{**there.entry, "summarises": True}])
        world.worker(other)
        # One that can extract, and has no model that may write, is not asked.
        world.worker(world.node("extracting", engines=["minilm"]))
        started, go = tmp_path / "started", tmp_path / "go"
        for node in (other, f"extracting-{world.tag}"):
            world.record("tests.effect", {"started": str(started), "go": str(go)}, node=node)
        world.until(started.exists, "the others are busy")
        server.kill()
        try:
            made = summarised(world, *TALKS[0])
        finally:
            go.touch()
        assert there.counted("prompt_tokens_total") > 0
    assert "Connection refused" not in (made.rejected or "")
    assert world.rows("SELECT node FROM executions WHERE task_name = %s", summaries.SUMMARISE) == [(other,)]


def test_role_of_the_node_says_which_of_its_models_writes(world: World, server: LlamaServer, chartered: Any, tmp_path: Path) -> None:
    with llama_server(tmp_path, name="second", model="Second-1B", window=1024) as second:
        chartered(charter_text().replace("[roles.developer]", '[roles.developer]\nmodel = "Second-1B"'))
        team(world, server, second, charter=str(tmp_path / "charter.toml"))
        summarised(world, *TALKS[0])
        assert (server.counted("prompt_tokens_total") > 0, second.counted("prompt_tokens_total") > 0) == (False, True)
