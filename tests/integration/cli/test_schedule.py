"""`federation schedule` as a script sees it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from federation.services import agents, messages


@pytest.fixture
def schedule(federation: Callable[..., Any], surroundings: dict[str, str], postgres: Any, activemq: Any, database: str) -> Callable[..., Any]:
    """`federation schedule …` on a database where ada, bob, dan and eve exist."""
    surroundings |= {
        "FEDERATION_DATABASE_URL": postgres.as_role("federation_app", database),
        "FEDERATION_DATABASE_SERVICE_URL": postgres.as_role("federation_service", database),
        "FEDERATION_BROKER_URL": activemq.url,
    }
    return lambda *words, **more: federation("schedule", *words, **more)


def test_schedules_as_a_script_sees_them(schedule: Callable[..., Any], transactions: Any) -> None:
    with transactions.begin("ada") as session:
        messages.send(session, "hello", conversation_id="project-123")
    with transactions.begin("test:setup") as session:
        ada, eve = ({"FEDERATION_TOKEN": agents.issue_token(session, name)} for name in ("ada", "eve"))
    assert schedule("list").stdout == "Nothing is set: all are summarised by their length alone.\n"
    added = schedule("add", "project-123", "--cron", "0 7 * * mon-fri", "--messages", "40", **ada)
    assert added.stdout.startswith("project-123 is summarised at 0 7 * * mon-fri, next on 2"), added.stderr
    assert added.stdout.endswith(" 07:00 UTC and after 40 messages.\n")
    [listed] = json.loads(schedule("list", "--json", **ada).stdout)["schedules"]
    assert (listed["conversation_id"], listed["cron"], listed["messages"], listed["updated_by"]) == ("project-123", "0 7 * * mon-fri", 40, "ada")
    assert "0 7 * * mon-fri" in schedule("list").stdout
    assert json.loads(schedule("list", "--json", **eve).stdout) == {"schedules": []}
    changed = json.loads(schedule("add", "project-123", "--messages", "30", "--json").stdout)
    assert (changed["cron"], changed["messages"], changed["next_at"], changed["created_by"]) == (None, 30, None, "ada")
    assert changed["updated_by"].startswith("cli:")
    for words, code, says in (
        (("add", "project-123"), 2, "cron: got None, wants times (cron), a number of messages, or both"),
        (("add", "project-123", "--cron", "7 o'clock"), 2, "wants five fields: minute, hour"),
        (("add", "project-132", "--messages", "30"), 1, "no conversation 'project-132'"),
        (("remove", "project-132"), 1, "no conversation 'project-132'"),
    ):
        refused = schedule(*words)
        assert (refused.returncode, says in refused.stderr) == (code, True), refused.stderr
    strange = schedule("remove", "project-123", **eve)
    assert (strange.returncode, "no conversation 'project-123'" in strange.stderr) == (1, True)
    assert schedule("remove", "project-123", **ada).stdout == "project-123 is summarised by its length alone.\n"
    again = schedule("remove", "project-123", **ada)
    assert (again.returncode, again.stderr) == (1, "federation: no schedule 'project-123'; there is no schedule yet\n")


def test_the_commons_may_have_a_schedule_before_anybody_has_said_something(schedule: Callable[..., Any], transactions: Any) -> None:
    added = schedule("add", "commons", "--messages", "40")
    assert (added.returncode, added.stdout) == (0, "commons is summarised after 40 messages.\n"), added.stderr
    with transactions.begin("ada") as session:
        messages.send(session, "hello")
    [listed] = json.loads(schedule("list", "--json").stdout)["schedules"]
    assert listed["conversation_id"] == "commons"
