"""Tasks are claimed by one, completed by the holder of the current fencing token, and ended once."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, text

from federation.errors import Conflict, InvalidInput, NotFound, Refused
from federation.services import claims, task_claims, task_ends, tasks
from federation.services.resources import parsed
from federation.store import outbox
from federation.store.models.events import Event
from federation.store.models.executions import Execution
from federation.store.models.tasks import AgentTask


@pytest.fixture
def task(transactions) -> str:
    with transactions.begin("ada") as session:
        return str(tasks.delegate(session, "Profile memory allocation in auth module", slug="memory-profile").id)


def claim(transactions, agent: str, reference: str, *, ttl_s: float = 30) -> claims.ClaimOutcome:
    with transactions.begin(agent) as session:
        return task_claims.claim(session, reference, description="Running valgrind analysis", ttl_s=ttl_s)


def lapse(transactions) -> None:
    """Let every claim run out now."""
    with transactions.begin("test:hand") as session:
        session.execute(text("update claims set expires_at = clock_timestamp()"))


def test_of_32_racers_one_wins(transactions, task: str) -> None:
    def race(number: int) -> claims.ClaimOutcome:
        with transactions.begin(f"racer-{number}") as session:
            return claims.claim(session, parsed("file:src/main.py"), description="", ttl_s=30)

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(race, range(32)))
    winners = [outcome for outcome in outcomes if outcome.claimed]
    assert len(winners) == 1
    assert {outcome.holder for outcome in outcomes} == {winners[0].holder}
    assert {outcome.fencing_token for outcome in outcomes} == {1, None}


def test_the_losers_completion_is_refused_and_the_winners_counts(transactions, task: str) -> None:
    won, lost = claim(transactions, "bob", "memory-profile"), claim(transactions, "dan", "memory-profile")
    assert (won.claimed, lost.claimed, lost.holder) == (True, False, "bob")
    with pytest.raises(Refused, match="Claim before you code: bob holds task"), transactions.begin("dan") as session:
        task_claims.complete(session, task, fencing_token=1, result={"says": "mine"})
    with transactions.begin("bob") as session:
        task_claims.complete(session, task, fencing_token=won.fencing_token, result={"leaks": 0})
    with transactions.begin("ada") as session:
        done = tasks.find(session, "memory-profile")
        assert (done.status, done.assigned_to, done.result) == ("completed", "bob", {"leaks": 0})
    with transactions.begin("test:hand") as session:
        stream = session.scalars(select(Event).where(Event.stream == f"task:{task}").order_by(Event.position)).all()
    assert [(event.position, event.type) for event in stream] == [(1, "task.created"), (2, "task.claimed"), (3, "task.completed")]


def test_lapsed_claim_is_taken_over_and_the_old_holder_fenced_off(transactions, task: str) -> None:
    old = claim(transactions, "bob", task)
    lapse(transactions)
    with pytest.raises(Refused, match="lapsed"), transactions.begin("bob") as session:
        task_claims.complete(session, task, fencing_token=old.fencing_token, result={})
    new = claim(transactions, "dan", task)
    assert new.claimed
    assert new.fencing_token == old.fencing_token + 1
    with pytest.raises(Refused), transactions.begin("bob") as session:
        task_claims.complete(session, task, fencing_token=old.fencing_token, result={})


def test_a_second_claim_of_the_holder_renews_and_keeps_the_token(transactions, task: str) -> None:
    first, second = claim(transactions, "bob", task, ttl_s=10), claim(transactions, "bob", task, ttl_s=60)
    assert (second.claimed, second.fencing_token) == (True, first.fencing_token)
    assert second.expires_at > first.expires_at


def test_a_strangers_release_changes_nothing_and_the_owners_frees_the_task(transactions, task: str) -> None:
    claim(transactions, "bob", task)
    with transactions.begin("dan") as session:
        assert not task_claims.release(session, task)
    assert not claim(transactions, "dan", task).claimed
    with transactions.begin("bob") as session:
        assert task_claims.release(session, task)
    assert claim(transactions, "dan", task).fencing_token == 2


def test_a_task_for_a_role_is_left_to_that_role(transactions) -> None:
    with transactions.begin("ada") as session:
        tasks.delegate(session, "write it", requirements={"role": "developer"}, slug="write-it")
    with pytest.raises(Refused, match="for the role developer"):
        claim(transactions, "eve", "write-it")
    assert claim(transactions, "bob", "write-it").claimed


def test_an_assigned_task_is_left_to_its_assignee(transactions) -> None:
    with transactions.begin("ada") as session:
        tasks.delegate(session, "write it", agent="bob", slug="write-it")
    with pytest.raises(Refused, match="assigned to bob"):
        claim(transactions, "dan", "write-it")
    with transactions.begin("test:hand") as session:
        assert session.execute(text("select count(*) from claims")).scalar_one() == 0, "a refused claim holds nothing"


def test_a_task_for_a_node_records_its_execution_with_the_task(transactions, publisher) -> None:
    with transactions.begin("ada") as session:
        made = tasks.delegate(session, "analyse", executor="node", requirements={"role": "developer", "min_vram_gib": 20}, priority=8)
    with transactions.begin("ada") as session:
        execution = session.scalars(select(Execution)).one()
    assert publisher.published == [execution.id]
    assert (execution.agent_task_id, execution.actor, execution.priority) == (made.id, "ada", 8)
    assert execution.requirements == {"role": "developer", "min_vram_gib": 20, "engine": "chat"}
    with pytest.raises(Refused, match="runs on a node"):
        claim(transactions, "bob", str(made.id))


def test_a_task_that_ended_stays_ended(transactions) -> None:
    with transactions.begin("ada") as session:
        identity = tasks.delegate(session, "analyse", executor="node").id
    with transactions.begin("node:taichi") as session:
        assert task_ends.start_on_node(session, identity, "taichi") is not None
        assert task_ends.end_on_node(session, identity, result={"text": "first"})
    with transactions.begin("node:aorus") as session:
        assert task_ends.start_on_node(session, identity, "aorus") is None
        assert not task_ends.end_on_node(session, identity, result={"text": "second"})
        assert session.get_one(AgentTask, identity).result == {"text": "first"}


def test_a_slug_is_unique_in_its_conversation(transactions, task: str) -> None:
    with pytest.raises(Conflict, match="memory-profile"), transactions.begin("bob") as session:
        tasks.delegate(session, "again", slug="memory-profile")
    with transactions.begin("ada") as session:
        tasks.delegate(session, "elsewhere", slug="memory-profile", conversation_id="other")
    with pytest.raises(Conflict, match="several conversations"), transactions.begin("ada") as session:
        tasks.find(session, "memory-profile")


def test_a_stranger_does_not_see_a_task(transactions) -> None:
    with transactions.begin("ada") as session:
        identity = tasks.delegate(session, "secret work", conversation_id="secret", slug="hidden").id
    for reference in (str(identity), "hidden"):
        with pytest.raises(NotFound, match="no task"), transactions.begin("eve") as session:
            tasks.find(session, reference)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"task_type": "ponder"}, InvalidInput, "task_type: got 'ponder'"),
        ({"priority": 11}, InvalidInput, "priority: got 11"),
        ({"requirements": {"role": "develper"}}, NotFound, "no role 'develper'; nearest: developer"),
        ({"requirements": {"node": "taichy"}}, NotFound, "no node 'taichy'; nearest: taichi"),
        ({"executor": "robot"}, InvalidInput, "executor: got 'robot', wants one of agent, node, person"),
        ({"requirements": {"model": "SmolLM3"}}, NotFound, "no model 'SmolLM3'; nearest: SmolLM2-135M-Instruct"),
        ({"requirements": {"engine": "lamacpp"}}, NotFound, "no engine 'lamacpp'; nearest: llamacpp"),
        ({"requirements": {"tags": ["frog"]}}, NotFound, "no tag 'frog'; nearest: frag"),
        ({"requirements": {"vram": 3}}, InvalidInput, "vram"),
        ({"agent": "adda"}, NotFound, "nearest: ada"),
    ],
)
def test_bad_input_is_named(transactions, arguments: dict, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says), transactions.begin("ada") as session:
        tasks.delegate(session, "x", **arguments)


def test_an_unknown_task_names_the_nearest(transactions, task: str) -> None:
    with pytest.raises(NotFound, match="nearest: memory-profile"), transactions.begin("ada") as session:
        tasks.find(session, "memory-profil")
    with pytest.raises(NotFound), transactions.begin("ada") as session:
        tasks.find(session, str(uuid.uuid4()))


def test_a_claim_delivered_twice_is_one_claim_with_one_event(transactions, task: str) -> None:
    with transactions.begin("bob") as session:
        execution_id = outbox.record(session, "some.task", {})
    outcomes = []
    for _ in range(2):
        with transactions.begin("bob", execution_id=execution_id) as session:
            outcomes.append(task_claims.claim(session, task, description="", ttl_s=30))
    assert [(outcome.claimed, outcome.fencing_token, outcome.expires_at) for outcome in outcomes] == [(True, 1, outcomes[0].expires_at)] * 2
    with transactions.begin("bob") as session:
        types = list(session.scalars(select(Event.type).where(Event.type.in_(["claim.acquired", "task.claimed"]))))
    assert sorted(types) == ["claim.acquired", "task.claimed"]


def test_a_claim_delivered_twice_at_once_is_one_claim_with_one_event(transactions, task: str) -> None:
    with transactions.begin("bob") as session:
        execution_id = outbox.record(session, "some.task", {})

    def deliver(_: int) -> claims.ClaimOutcome:
        with transactions.begin("bob", execution_id=execution_id) as session:
            return task_claims.claim(session, task, description="", ttl_s=30)

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(deliver, range(8)))
    assert {(outcome.claimed, outcome.fencing_token) for outcome in outcomes} == {(True, 1)}
    with transactions.begin("bob") as session:
        types = list(session.scalars(select(Event.type).where(Event.type.in_(["claim.acquired", "task.claimed"]))))
    assert sorted(types) == ["claim.acquired", "task.claimed"]


def test_a_claim_that_was_lost_meanwhile_is_not_won_again_by_a_second_delivery(transactions, task: str) -> None:
    with transactions.begin("bob") as session:
        execution_id = outbox.record(session, "some.task", {})
    with transactions.begin("bob", execution_id=execution_id) as session:
        task_claims.claim(session, task, description="", ttl_s=30)
    lapse(transactions)
    claim(transactions, "dan", task)
    with transactions.begin("bob", execution_id=execution_id) as session:
        again = task_claims.claim(session, task, description="", ttl_s=30)
    assert (again.claimed, again.holder, again.fencing_token) == (False, "dan", None)


@pytest.mark.parametrize("lost", ["lapsed", "released"])
def test_a_claim_that_its_holder_has_no_more_is_not_told_as_his_by_a_second_delivery(transactions, task: str, lost: str) -> None:
    with transactions.begin("bob") as session:
        execution_id = outbox.record(session, "some.task", {})
    with transactions.begin("bob", execution_id=execution_id) as session:
        task_claims.claim(session, task, description="", ttl_s=30)
    if lost == "lapsed":
        lapse(transactions)
    else:
        with transactions.begin("bob") as session:
            assert task_claims.release(session, task)
    with transactions.begin("bob", execution_id=execution_id) as session:
        again = task_claims.claim(session, task, description="", ttl_s=30)
    assert (again.claimed, again.holder, again.fencing_token) == (False, "bob", None)


@pytest.mark.parametrize("lost", ["lapsed", "released"])
def test_an_assigned_task_stays_its_assignees_after_the_claim_is_gone(transactions, lost: str) -> None:
    with transactions.begin("ada") as session:
        tasks.delegate(session, "write it", agent="bob", slug="write-it")
    claim(transactions, "bob", "write-it")
    if lost == "lapsed":
        lapse(transactions)
    else:
        with transactions.begin("bob") as session:
            assert task_claims.release(session, "write-it")
            assert tasks.find(session, "write-it").status == "assigned"
    with pytest.raises(Refused, match="assigned to bob"):
        claim(transactions, "dan", "write-it")
    assert claim(transactions, "bob", "write-it").fencing_token == 2


def test_a_slug_that_looks_like_a_uuid_is_found(transactions) -> None:
    chosen = str(uuid.uuid4())
    with transactions.begin("ada") as session:
        made = tasks.delegate(session, "x", slug=chosen)
        assert tasks.find(session, chosen).id == made.id


@pytest.mark.parametrize(("task_type", "engine"), [("analyze", "chat"), ("report", "minilm")])
def test_a_nodes_task_asks_for_the_engine_that_its_kind_needs(transactions, task_type: str, engine: str) -> None:
    with transactions.begin("ada") as session:
        made = tasks.delegate(session, "x", executor="node", task_type=task_type, requirements={"role": "analyst"})
        assert made.requirements == {"role": "analyst", "engine": engine}


DELEGATED = {
    "description": "Profile memory",
    "slug": "profile",
    "requirements": {"role": "developer", "min_vram_gib": 20, "tags": ["frag"]},
    "parameters": {"depth": 3},
    "executor": "node",
}


def test_a_task_delegated_again_under_its_name_is_the_same_task(transactions, publisher) -> None:
    made = []
    for _ in range(2):
        with transactions.begin("ada") as session:
            made.append(tasks.delegate(session, **DELEGATED).id)
    assert made[0] == made[1]
    assert len(publisher.published) == 1, "its execution is recorded once"
    with transactions.begin("ada") as session:
        assert len(session.scalars(select(Execution)).all()) == 1
        assert list(session.scalars(select(Event.type).where(Event.stream == f"task:{made[0]}"))) == ["task.created"]


def test_of_many_who_delegate_the_same_at_once_one_makes_it(transactions) -> None:
    for number in range(20):

        def delegate(slug: str = f"race-{number}") -> object:
            with transactions.begin("ada") as session:
                return tasks.delegate(session, "Build it", slug=slug).id

        with ThreadPoolExecutor(4) as pool:
            assert len({made.result() for made in [pool.submit(delegate) for _ in range(4)]}) == 1


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        ({"description": "Profile time"}, "description"),
        ({"parameters": {"depth": 4}}, "parameters"),
        ({"requirements": {"role": "developer"}}, "requirements"),
        ({"executor": "agent", "requirements": {}}, "executor, requirements"),
        ({"priority": 6}, "priority"),
        ({"task_type": "analyze"}, "task_type"),
    ],
)
def test_another_task_under_the_same_name_is_refused(transactions, other: dict, differs: str) -> None:
    with transactions.begin("ada") as session:
        first = tasks.delegate(session, **DELEGATED).id
    with (
        pytest.raises(Conflict, match=rf"'profile' exists in conversation commons already.*\({differs} differ\)"),
        transactions.begin("ada") as session,
    ):
        tasks.delegate(session, **DELEGATED | other)
    with pytest.raises(Conflict, match=r"delegated by ada \(created_by differ\)"), transactions.begin("bob") as session:
        tasks.delegate(session, **DELEGATED)
    with transactions.begin("ada") as session:
        assert tasks.find(session, "profile").id == first


def test_one_task_comes_of_two_calls_at_once(transactions, publisher) -> None:
    def ask(_: int) -> uuid.UUID:
        with transactions.begin("ada") as session:
            return tasks.delegate(session, **DELEGATED).id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    assert len(publisher.published) == 1


def test_a_completion_that_is_repeated_changes_nothing(transactions, task: str) -> None:
    token = claim(transactions, "bob", task).fencing_token
    ended = []
    for _ in range(2):
        with transactions.begin("bob") as session:
            ended.append(task_claims.complete(session, task, fencing_token=token, result={"leaks": 0}).completed_at)
    assert ended[0] == ended[1]
    for agent, given in (
        ("bob", {"fencing_token": token, "result": {"leaks": 1}}),
        ("bob", {"fencing_token": token, "result": {"leaks": 0}, "success": False}),
        ("bob", {"fencing_token": token + 1, "result": {"leaks": 0}}),
        ("dan", {"fencing_token": token, "result": {"leaks": 0}}),
    ):
        with pytest.raises(Conflict, match="completed already, by bob"), transactions.begin(agent) as session:
            task_claims.complete(session, task, **given)
    with transactions.begin("bob") as session:
        assert len(session.scalars(select(Event).where(Event.type == "task.completed")).all()) == 1


def test_one_end_comes_of_two_completions_at_once(transactions, task: str) -> None:
    token = claim(transactions, "bob", task).fencing_token

    def end(_: int) -> str:
        with transactions.begin("bob") as session:
            return task_claims.complete(session, task, fencing_token=token, result={"leaks": 0}).status

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(end, range(4))) == {"completed"}
    with transactions.begin("bob") as session:
        assert len(session.scalars(select(Event).where(Event.type == "task.completed")).all()) == 1


@pytest.mark.parametrize(
    ("given", "asks", "says"),
    [
        ({"executor": "node"}, {}, "runs on a node"),
        ({"agent": "dan"}, {}, "assigned to dan"),
        ({"requirements": {"role": "lead"}}, {}, "for the role lead"),
        ({}, {"ttl_s": 0.5}, "ttl_s: got 0.5, wants 1 to 86400 seconds"),
    ],
)
def test_a_claim_that_cannot_be_won_is_refused_and_holds_nothing(transactions, given: dict, asks: dict, says: str) -> None:
    with transactions.begin("ada") as session:
        tasks.delegate(session, "x", slug="t", **given)
    for present_s in (None, 30):
        with pytest.raises((Refused, InvalidInput), match=says), transactions.begin("bob") as session:
            task_claims.claim(session, "t", **{"description": "", "ttl_s": 30, "present_s": present_s} | asks)
    with transactions.begin("bob") as session:
        assert session.execute(text("SELECT holder FROM claims UNION ALL SELECT holder FROM claim_waiters")).all() == []


def test_a_claim_on_a_task_that_has_ended_is_refused(transactions, task: str) -> None:
    token = claim(transactions, "bob", task).fencing_token
    with transactions.begin("bob") as session:
        task_claims.complete(session, task, fencing_token=token, result={})
    with pytest.raises(Conflict, match="completed already"), transactions.begin("dan") as session:
        task_claims.claim(session, task, description="", ttl_s=30)


def test_a_task_is_looked_for_in_the_conversation_that_is_named(transactions, task: str) -> None:
    with transactions.begin("ada") as session:
        tasks.delegate(session, "elsewhere", conversation_id="other")
        assert str(tasks.find(session, task, conversation_id="commons").id) == task
    with pytest.raises(NotFound, match="no task"), transactions.begin("ada") as session:
        tasks.find(session, task, conversation_id="other")
    with pytest.raises(NotFound, match="no conversation 'other'"), transactions.begin("bob") as session:
        tasks.find(session, task, conversation_id="other")
