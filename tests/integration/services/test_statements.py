"""What agents decide and complete is stated under a signature of theirs, or attested; what is no such statement is refused and leaves nothing."""

import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import errors

from federation.charter import charter_text
from federation.errors import Conflict, Equivocation, InvalidInput, NotFound, Refused
from federation.security.signing import PublicKey
from federation.security.statements import Draft, KeyVoice, Mode, Presented, Signed, canonical, content_sha256, nonce
from federation.services import agent_keys, signers, statements, tasks
from federation.services.approvals import Decision
from tests.integration.services.stating import DOOR, Team, by_hand, made


def decided_on(reason: str = "because", **changed: Any) -> dict[str, Any]:
    """What a decision on the gate is about."""
    return {"reason": reason, "description": "Restart the cache", "terms": {"task_type": "investigate", "executor": "agent", "priority": 5} | changed}


def draft(task_id: uuid.UUID, **changed: str) -> Draft:
    """What ada states who approves the gate because."""
    plain = {
        "actor": "ada",
        "action": "task.decide",
        "choice": "approve",
        "subject": f"task:{task_id}",
        "content_sha256": content_sha256(decided_on()),
        "at": datetime.now(UTC).isoformat(),
        "nonce": nonce(),
    }
    return Draft(**plain | changed)


def test_a_decision_that_the_agent_signs_is_signed_and_one_that_the_door_signs_is_attested(team: Team) -> None:
    for slug, voice, mode, by in (("one", team.signs("ada"), "signed", None), ("two", team.signs("door"), "attested", DOOR)):
        task_id = team.parked(slug)
        assert team.decide(Decision.APPROVE, voice, slug=slug).status == "pending"
        assert team.stated(task_id) == [("ada", "approve", mode, by)]
        told = team.rows(f"SELECT type, actor FROM events WHERE stream = 'task:{task_id}' ORDER BY position")
        assert told == [("task.created", "bob"), ("statement.made", "ada"), ("task.approved", "ada")]


@pytest.mark.parametrize("decision", Decision)
def test_what_was_signed_says_what_was_decided_on(team: Team, decision: Decision) -> None:
    asked = {"executor": "node", "parameters": {"share": 0.5, "then": "drop the table"}, "start_at": datetime(2099, 1, 31, 17, tzinfo=UTC)}
    with team.transactions.begin("bob") as session:
        task_id = tasks.delegate(session, "Restart the cache", slug="gate", requires_approval=True, **asked).id
    team.decide(decision, team.signs("ada"))
    [(told,)] = team.rows(f"SELECT payload FROM events WHERE stream = 'task:{task_id}' AND type IN ('task.approved', 'task.rejected')")
    wanted = {"engine": "chat"}
    terms = {"parameters": asked["parameters"], "start_at": "2099-01-31T17:00:00+00:00", "requirements": wanted, "executor": "node"}
    about = {name: told[name] for name in ("reason", "description", "terms")}
    assert about == decided_on(**terms)
    [(said,)] = team.rows("SELECT statement FROM statements")
    assert json.loads(said)["content_sha256"] == content_sha256(about)


def test_a_completion_is_stated_too(team: Team) -> None:
    task_id, token = team.claimed()
    assert team.complete(token, team.signs("bob")).status == "completed"
    assert team.stated(task_id) == [("bob", "completed", "signed", None)]


def test_an_operator_signs_in_his_own_name(team: Team) -> None:
    nora = made()
    with team.transactions.begin("cli:nora") as session:
        signers.register(session, "cli:nora", nora.public)
    task_id = team.parked()
    team.decide(Decision.REJECT, KeyVoice(nora, "cli:nora"), who="cli:nora")
    assert team.stated(task_id) == [("cli:nora", "reject", "signed", None)]


def test_the_same_again_changes_nothing_and_states_nothing(team: Team) -> None:
    task_id = team.parked()
    presented = by_hand(team.ada, draft(task_id))
    for voice in (presented, presented, team.signs("ada"), team.signs("door")):
        assert team.decide(Decision.APPROVE, voice).decided_by == "ada"
    assert team.stated(task_id) == [("ada", "approve", "signed", None)]


def altered(one: Presented, old: str, new: str) -> Presented:
    assert old in one.signed.text
    return Presented(replace(one.signed, text=one.signed.text.replace(old, new)))


FORGED: dict[str, tuple[Callable[[Team, uuid.UUID], Presented], str]] = {
    "altered text": (lambda team, task: altered(by_hand(team.ada, draft(task, choice="reject")), "reject", "approve"), "signature is not that"),
    "altered signature": (lambda team, task: Presented(replace(by_hand(team.ada, draft(task)).signed, signature=bytes(64))), "signature is not that"),
    "another form": (lambda team, task: altered(by_hand(team.ada, draft(task)), ",", ", "), "one form"),
    "no statement": (lambda team, task: Presented(Signed(canonical({"approve": str(task)}), bytes(64))), "this is none"),
    "another choice": (lambda team, task: by_hand(team.ada, draft(task, choice="reject")), "choice 'reject', and what is asked for has 'approve':"),
    "another action": (lambda team, task: by_hand(team.ada, draft(task, action="task.complete")), "action 'task.complete'"),
    "another subject": (lambda team, task: by_hand(team.ada, draft(uuid.uuid4())), "subject 'task:"),
    "another reason": (lambda team, task: by_hand(team.ada, draft(task, content_sha256=content_sha256(decided_on("not")))), "content_sha256"),
    "other terms": (lambda team, task: by_hand(team.ada, draft(task, content_sha256=content_sha256(decided_on(executor="node")))), "content_sha256"),
    "the reason alone": (lambda team, task: by_hand(team.ada, draft(task, content_sha256=content_sha256({"reason": "because"}))), "content_sha256"),
    "another agent": (lambda team, task: by_hand(team.bob, draft(task, actor="bob")), "actor 'bob'"),
    "another's key": (lambda team, task: by_hand(team.bob, draft(task)), "not ada's but bob's"),
    "an unknown key": (lambda team, task: by_hand(made(), draft(task)), "not known as ada's"),
    "the door's key": (lambda team, task: by_hand(team.door, draft(task)), "is not ada's but service:door's"),
    "attested by hand": (lambda team, task: by_hand(team.door, draft(task), attested_by=DOOR), "attested, which only a part"),
    "attested by an agent": (lambda team, task: by_hand(team.bob, draft(task), attested_by="bob"), "attested, which only a part"),
    "long ago": (lambda team, task: by_hand(team.ada, draft(task, at=(datetime.now(UTC) - timedelta(hours=1)).isoformat())), "set the clock"),
    "in the future": (lambda team, task: by_hand(team.ada, draft(task, at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())), "set the clock"),
}


@pytest.mark.parametrize("how", FORGED)
def test_what_is_no_statement_of_this_by_this_agent_is_refused_and_leaves_nothing(team: Team, how: str) -> None:
    forge, says = FORGED[how]
    task_id = team.parked()
    before = team.rows("SELECT count(*) FROM events")
    with pytest.raises(Refused, match=says):
        team.decide(Decision.APPROVE, forge(team, task_id))
    assert team.stated(task_id) == []
    assert team.rows("SELECT count(*) FROM events") == before
    assert team.rows("SELECT status, decided_by FROM agent_tasks") == [("awaiting_approval", None)]


def test_an_agent_that_attests_is_refused_however_it_comes(team: Team) -> None:
    team.parked()
    with pytest.raises(Refused, match="only a part"):
        team.decide(Decision.APPROVE, team.signs("bob"))


def test_a_nonce_serves_once(team: Team) -> None:
    first, second = team.parked("one"), team.parked("two")
    once = draft(first)
    team.decide(Decision.APPROVE, by_hand(team.ada, once), slug="one")
    with pytest.raises(Refused, match="used already"):
        team.decide(Decision.APPROVE, by_hand(team.ada, replace(once, subject=f"task:{second}")), slug="two")
    assert team.stated(second) == []
    # Another's nonces are his own.
    task_id, token = team.claimed()
    said = draft(task_id, actor="bob", action="task.complete", choice="completed", content_sha256=content_sha256({"result": {"leaks": 0}}))
    team.complete(token, by_hand(team.bob, replace(said, nonce=once.nonce)))


def test_a_statement_serves_no_second_time_for_what_could_be_done_anew(team: Team) -> None:
    task_id = team.parked()
    presented = by_hand(team.ada, draft(task_id))
    team.decide(Decision.APPROVE, presented)
    with psycopg.connect(team.url) as connection:
        connection.execute("SET federation.actor = 'test'")
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE agent_tasks SET status = 'awaiting_approval', decided_by = NULL")
    with pytest.raises(Refused, match="used already"):
        team.decide(Decision.APPROVE, presented)
    assert len(team.stated(task_id)) == 1


def test_a_revoked_key_states_nothing_more_and_what_it_stated_stays(team: Team) -> None:
    first = team.parked("one")
    team.decide(Decision.APPROVE, team.signs("ada"), slug="one")
    with team.transactions.begin("cli:root") as session:
        agent_keys.revoke(session, "ada", team.ada.public.identity[:12])
    second = team.parked("two")
    with pytest.raises(Refused, match="was revoked"):
        team.decide(Decision.APPROVE, team.signs("ada"), slug="two")
    assert (len(team.stated(first)), team.stated(second)) == (1, [])
    another = made()
    with team.transactions.begin("ada") as session:
        agent_keys.register(session, "ada", another.public)
    team.decide(Decision.APPROVE, KeyVoice(another, "ada"), slug="two")
    assert team.stated(second) == [("ada", "approve", "signed", None)]
    with team.transactions.begin(DOOR) as session:
        signers.revoke(session, DOOR)
    team.parked("three")
    with pytest.raises(Refused, match="was revoked"):
        team.decide(Decision.APPROVE, team.signs("door"), slug="three")


def test_both_of_two_keys_serve(team: Team) -> None:
    laptop = made()
    with team.transactions.begin("ada") as session:
        agent_keys.register(session, "ada", laptop.public)
        assert [one.state for one in agent_keys.of(session, "ada")] == ["valid", "valid"]
    for slug, key in (("one", team.ada), ("two", laptop)):
        team.parked(slug)
        team.decide(Decision.APPROVE, KeyVoice(key, "ada"), slug=slug)
    assert len(team.rows("SELECT DISTINCT key FROM statements")) == 2


def test_contraries_of_one_author_are_both_kept_and_only_the_first_counts(team: Team) -> None:
    task_id = team.parked()
    team.decide(Decision.APPROVE, team.signs("ada"))
    with pytest.raises(Equivocation, match=r"'approve' before, and now with 'reject': the first counts"):
        team.decide(Decision.REJECT, team.signs("ada"))
    assert team.rows("SELECT status, decided_by FROM agent_tasks") == [("pending", "ada")]
    assert team.stated(task_id) == [("ada", "approve", "signed", None), ("ada", "reject", "signed", None)]
    with team.transactions.begin("test:hand") as session:
        found = statements.equivocations(session)
    assert [(one.actor, one.choice) for one in found] == [("ada", "approve"), ("ada", "reject")]
    assert all(team.ada.public.signed(one.statement.encode(), one.signature) for one in found)
    # One signature for each choice is enough.
    with pytest.raises(Conflict):
        team.decide(Decision.REJECT, team.signs("ada"), reason="again")
    team.decide(Decision.APPROVE, team.signs("ada"))
    assert len(team.stated(task_id)) == 2


def test_a_completion_that_its_author_denies_is_kept_too(team: Team) -> None:
    task_id, token = team.claimed()
    team.complete(token, team.signs("bob"))
    with pytest.raises(Equivocation):
        team.complete(token, team.signs("bob"), success=False)
    assert [choice for _, choice, _, _ in team.stated(task_id)] == ["completed", "failed"]


@pytest.mark.parametrize("voices", [("door", "ada"), ("ada", "door"), ("door", "door")])
def test_what_was_only_attested_proves_no_contradiction(team: Team, voices: tuple[str, str]) -> None:
    task_id = team.parked()
    team.decide(Decision.APPROVE, team.signs(voices[0]))
    with pytest.raises(Conflict, match="approved by ada already") as refused:
        team.decide(Decision.REJECT, team.signs(voices[1]))
    assert not isinstance(refused.value, Equivocation)
    assert len(team.stated(task_id)) == 1


def test_of_many_contraries_at_once_one_is_done_and_one_is_the_proof(team: Team) -> None:
    task_id = team.parked()

    def decide(number: int) -> str:
        try:
            return team.decide(list(Decision)[number % 2], team.signs("ada")).status
        except Conflict as error:
            return type(error).__name__

    with ThreadPoolExecutor(8) as pool:
        ended = list(pool.map(decide, range(16)))
    assert len(team.rows("SELECT 1 FROM events WHERE type IN ('task.approved', 'task.rejected')")) == 1
    assert {choice for _, choice, _, _ in team.stated(task_id)} == {"approve", "reject"}
    assert "Equivocation" in ended


def test_where_the_charter_demands_a_signature_the_doors_is_not_enough(team: Team, chartered: Callable[[str], None]) -> None:
    chartered(charter_text().replace('= "attested"', '= "signed"'))
    task_id = team.parked()
    for voice in (team.signs("door"), None):
        with pytest.raises(Refused, match="federation mcp"):
            team.decide(Decision.APPROVE, voice)
    assert team.stated(task_id) == []
    team.decide(Decision.APPROVE, team.signs("ada"))
    work, token = team.claimed()
    with pytest.raises(Refused, match="demands a signature"):
        team.complete(token, team.signs("door"))
    team.complete(token, team.signs("bob"))
    assert [*team.stated(task_id), *team.stated(work)] == [("ada", "approve", "signed", None), ("bob", "completed", "signed", None)]


def test_the_hash_is_of_the_value_however_it_is_written(team: Team) -> None:
    task_id, token = team.claimed()
    said = draft(task_id, actor="bob", action="task.complete", choice="completed", content_sha256=content_sha256({"result": {"leaks": 1}}))
    team.complete(token, by_hand(team.bob, said), leaks=1.0)
    assert Mode.SIGNED in {mode for _, _, mode, _ in team.stated(task_id)}


def test_a_result_that_a_signature_would_not_bind_is_refused_with_what_to_do(team: Team) -> None:
    task_id, token = team.claimed()
    for voice in (team.signs("bob"), team.signs("door")):
        with pytest.raises(InvalidInput, match=r"result: got .*9007199254740993 .* as text"):
            team.complete(token, voice, leaks=2**53 + 1)
    assert team.stated(task_id) == []
    team.complete(token, team.signs("bob"), leaks=str(2**53 + 1))
    assert len(team.stated(task_id)) == 1


def test_a_key_is_one_agents_and_no_parts(team: Team) -> None:
    for name, key, says in (("bob", team.ada, "is ada's"), ("bob", team.door, "is that of service:door")):
        with pytest.raises(Conflict, match=says), team.transactions.begin("cli:root") as session:
            agent_keys.register(session, name, key.public)
    with pytest.raises(NotFound), team.transactions.begin("cli:root") as session:
        agent_keys.register(session, "nobody", made().public)
    with team.transactions.begin("ada") as session:
        assert agent_keys.register(session, "ada", team.ada.public).state == "valid"
    told = team.rows("SELECT type, actor, payload->>'identity' FROM events WHERE type LIKE 'agent.key%' AND stream = 'agent:ada'")
    assert told == [("agent.key_added", "ada", team.ada.public.identity)]


def test_what_names_no_one_key_revokes_none(team: Team) -> None:
    shared: PublicKey = made().public
    while shared.identity[0] != team.ada.public.identity[0]:
        shared = made().public
    with team.transactions.begin("ada") as session:
        agent_keys.register(session, "ada", shared)
    for reference, error in (("", NotFound), (team.bob.public.identity, NotFound), (shared.identity[0], Conflict)):
        with pytest.raises(error), team.transactions.begin("cli:root") as session:
            agent_keys.revoke(session, "ada", reference)
    with team.transactions.begin("cli:root") as session:
        assert len(agent_keys.revoke(session, "ada")) == 2
    with pytest.raises(Conflict, match="revoked already"), team.transactions.begin("cli:root") as session:
        agent_keys.revoke(session, "ada")


ROLES = ("federation_app", "federation_service", "federation_owner")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE agent_keys SET public_key = 'mine'",
        "UPDATE agent_keys SET agent = 'bob'",
        "UPDATE agent_keys SET revoked_at = NULL, updated_by = 'mallory'",
        "UPDATE agent_keys SET revoked_at = now() - interval '1 day', updated_by = 'mallory'",
        "DELETE FROM agent_keys",
        "TRUNCATE agent_keys",
        "UPDATE statements SET choice = 'reject'",
        "DELETE FROM statements",
        "TRUNCATE statements",
    ],
)
def test_no_role_replaces_a_key_takes_a_revocation_back_or_changes_what_was_stated(postgres: Any, team: Team, role: str, statement: str) -> None:
    team.parked()
    team.decide(Decision.APPROVE, team.signs("ada"))
    with team.transactions.begin("cli:root") as session:
        agent_keys.revoke(session, "ada")
        agent_keys.revoke(session, "bob")
    with psycopg.connect(postgres.as_role(role, team.url)) as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute(statement)


def test_what_was_changed_behind_our_back_is_told(team: Team) -> None:
    task_id = team.parked()
    team.decide(Decision.APPROVE, team.signs("ada"))
    changes = {
        "statement = replace(statement, 'approve', 'reject')": "another digest",
        "choice = 'reject'": "says choice 'approve'",
        "mode = 'attested', attested_by = 'service:door'": "says mode",
        r"signature = decode(repeat('00', 64), 'hex')": "its signature is not",
        "statement = ''": "is none",
    }
    [before] = team.rows("SELECT statement, choice, mode, attested_by, signature FROM statements")
    for change, says in changes.items():
        with psycopg.connect(team.url) as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute(f"UPDATE statements SET {change}")
        with team.transactions.begin("test:hand") as session:
            [flaw] = statements.unsound(session)
        assert says in flaw
        with psycopg.connect(team.url) as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute("UPDATE statements SET (statement, choice, mode, attested_by, signature) = (%s, %s, %s, %s, %s)", before)
    assert team.stated(task_id) == [("ada", "approve", "signed", None)]
