"""Clients that wait: woken at once, over restarts, in threads and in forked children. `recheck=60` rules out that a look helped."""

import gc
import multiprocessing
import re
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from celery import Celery, states
from celery.exceptions import TimeoutError as CeleryTimeoutError

from federation.results.backend import PostgresBackend
from federation.results.errors import IdRefused, NotLetIn

Make = Callable[..., PostgresBackend]
SOON_S = 90


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.01)


def listening(database: Any) -> int:
    named = "application_name = 'celery-results-listener' and query ilike 'select task_id%' and state = 'idle'"
    return int(database.execute(f"select count(*) from pg_stat_activity where datname = current_database() and {named}")[0][0])


def connections(database: Any) -> tuple[int, int]:
    """Of those that listen, and of the others of backends."""
    named = "count(*) filter (where application_name = '{}')"
    counted = ", ".join(map(named.format, ("celery-results-listener", "celery-results")))
    [(listeners, others)] = database.execute(f"select {counted} from pg_stat_activity where datname = current_database()")
    return listeners, others


def in_background(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    pool = ThreadPoolExecutor(1)
    future = pool.submit(call, *args, **kwargs)
    pool.shutdown(wait=False)
    return future


def echo(value: Any) -> Any:
    return value


def watched(backend: PostgresBackend, count: int = 1) -> Callable[[], bool]:
    return lambda: len(backend.listener._watches) == count


def test_a_waiter_is_woken_by_the_result(make_backend: Make, database: Any) -> None:
    worker, client = make_backend(), make_backend()
    waiting = in_background(client.app.AsyncResult("id").get, timeout=SOON_S)
    until(lambda: watched(client)() and listening(database) == 1)
    worker.store_result("id", {"x": 1}, states.SUCCESS)
    assert waiting.result(SOON_S) == {"x": 1}
    assert watched(client, 0)()


def test_a_result_from_before_is_there_at_once(backend: PostgresBackend) -> None:
    backend.store_result("id", 1, states.SUCCESS)
    assert backend.app.AsyncResult("id").get(timeout=0) == 1


def test_a_failure_is_raised_at_the_waiter(backend: PostgresBackend) -> None:
    backend.store_result("id", KeyError("x"), states.FAILURE)
    with pytest.raises(KeyError):
        backend.app.AsyncResult("id").get(timeout=SOON_S)


def test_time_out(backend: PostgresBackend) -> None:
    backend.store_result("id", None, states.STARTED)
    with pytest.raises(CeleryTimeoutError, match="id"):
        backend.app.AsyncResult("id").get(timeout=0.05)
    assert watched(backend, 0)()


def test_progress_is_heard(make_backend: Make) -> None:
    worker, client = make_backend(), make_backend()
    heard: list[Any] = []
    second = threading.Event()

    def hear(meta: dict[str, Any]) -> None:
        heard.append(meta["result"])
        second.set()

    waiting = in_background(client.app.AsyncResult("id").get, timeout=SOON_S, on_message=hear)
    until(watched(client))
    worker.store_result("id", {"done": 1}, "PROGRESS")
    assert second.wait(SOON_S)
    worker.store_result("id", "end", states.SUCCESS)
    assert waiting.result(SOON_S) == "end"
    assert heard == [{"done": 1}, "end"]


def test_two_hundred_waiters_share_one_listening_connection(make_backend: Make, database: Any) -> None:
    worker, client = make_backend(), make_backend("recheck=60&connections=4")
    with ThreadPoolExecutor(200) as pool:
        waiting = [pool.submit(client.app.AsyncResult(f"id-{number}").get, timeout=60) for number in range(200)]
        until(lambda: watched(client, 200)() and listening(database) == 1)
        # While all wait, of whom none has an answer.
        while_they_wait = connections(database)
        assert not any(future.done() for future in waiting)
        for number in range(200):
            worker.store_result(f"id-{number}", number, states.SUCCESS)
        assert [future.result(60) for future in waiting] == list(range(200))
    for listeners, others in (while_they_wait, connections(database)):
        assert listeners == 1
        assert others <= 4 + 1


def test_two_threads_may_wait_for_the_same_group(make_backend: Make) -> None:
    worker, client = make_backend(), make_backend()
    app = client.app

    def group() -> Any:
        return app.GroupResult("g", [app.AsyncResult(task_id) for task_id in "abc"])

    waiting = [in_background(group().get, timeout=SOON_S) for _ in range(2)]
    until(lambda: all(len(watches) == 2 for watches in client.listener._watches.values()) and watched(client, 3)())
    for task_id in "cab":
        worker.store_result(task_id, task_id, states.SUCCESS)
    assert [future.result(SOON_S) for future in waiting] == [["a", "b", "c"]] * 2


def test_a_join_yields_each_result_as_it_comes_and_nested_groups_whole(make_backend: Make) -> None:
    worker, client = make_backend(), make_backend()
    app = client.app
    nested = app.GroupResult("n", [app.AsyncResult("b"), app.AsyncResult("c")])
    group = app.GroupResult("g", [app.AsyncResult("a"), nested, app.AsyncResult("d")])
    fired = threading.Event()
    group.then(lambda _: fired.set())
    arriving = group.iter_native(timeout=SOON_S)
    order = []
    for task_id in "dcab":
        worker.store_result(task_id, task_id, states.SUCCESS)
        if task_id != "c":
            order.append(next(arriving)[0])
    assert order == ["d", "a", "n"]
    assert group.join_native(timeout=SOON_S) == ["a", ["b", "c"], "d"]
    assert fired.is_set()
    assert app.GroupResult("empty", []).join_native() == []


def test_a_lost_notification_is_made_good_by_a_look(make_backend: Make, database: Any) -> None:
    client = make_backend("recheck=0.1")
    waiting = in_background(client.app.AsyncResult("id").get, timeout=SOON_S)
    until(lambda: watched(client)() and listening(database) == 1)
    database.execute("insert into celery_results (task_id, state, result) values ('id', 'SUCCESS', '7')")
    assert waiting.result(SOON_S) == 7


def test_a_waiter_outlives_a_restart_of_the_server(make_backend: Make, database: Any, postgres: Any) -> None:
    worker, client = make_backend(), make_backend()
    waiting = in_background(client.app.AsyncResult("id").get, timeout=60)
    late = in_background(client.app.AsyncResult("late").get, timeout=60)
    until(lambda: watched(client, 2)() and listening(database) == 1)
    postgres.kill()
    began_while_away = in_background(client.app.AsyncResult("id").get, timeout=60)
    storing = in_background(worker.store_result, "id", 5, states.SUCCESS)
    postgres.start()
    assert storing.result(60) == 5
    assert waiting.result(60) == 5
    assert began_while_away.result(60) == 5
    worker.store_result("late", 6, states.SUCCESS)
    assert late.result(60) == 6


def test_an_idle_listener_goes_away_and_comes_back(make_backend: Make, database: Any) -> None:
    worker, client = make_backend(), make_backend("recheck=0.05")
    client.listener._idle_s = 0.1
    client.on_task_call(None, "id")
    until(lambda: client.listener._thread is None and listening(database) == 0)
    worker.store_result("id", 1, states.SUCCESS)
    assert client.app.AsyncResult("id").get(timeout=SOON_S) == 1


def _store_and_get(backend: PostgresBackend, number: int) -> None:
    assert backend.app.AsyncResult("mine").get(timeout=SOON_S) == "parent"
    backend.store_result(f"child-{number}", number, states.SUCCESS)
    assert backend.app.AsyncResult("go").get(timeout=SOON_S) == "on"


def test_a_forked_child_leaves_the_connections_of_its_parent_alone(make_backend: Make) -> None:
    backend = make_backend()
    app = backend.app
    backend.store_result("mine", "parent", states.SUCCESS)
    waiting = in_background(app.AsyncResult("child-1").get, timeout=SOON_S)
    until(watched(backend))
    children = [multiprocessing.get_context("fork").Process(target=_store_and_get, args=(backend, number)) for number in range(2)]
    for child in children:
        child.start()
    assert waiting.result(SOON_S) == 1
    assert app.AsyncResult("child-0").get(timeout=SOON_S) == 0
    backend.store_result("go", "on", states.SUCCESS)
    for child in children:
        child.join(SOON_S)
    assert [child.exitcode for child in children] == [0, 0]
    backend.store_result("after", 1, states.SUCCESS)
    assert app.AsyncResult("after").get(timeout=SOON_S) == 1


def _collect_and_store(backend: PostgresBackend) -> None:
    gc.collect()
    backend.store_result("child", _session(backend), states.SUCCESS)
    backend.close()
    gc.collect()


def _session(backend: PostgresBackend) -> int:
    with backend._connections.borrow() as connection:
        return connection.info.backend_pid


def test_what_a_forked_child_drops_and_closes_ends_no_session_of_its_parent(make_backend: Make) -> None:
    backend = make_backend()
    before = _session(backend)
    child = multiprocessing.get_context("fork").Process(target=_collect_and_store, args=(backend,))
    child.start()
    child.join(SOON_S)
    assert child.exitcode == 0
    assert backend.app.AsyncResult("child").get(timeout=SOON_S) != before
    assert _session(backend) == before


def test_who_waits_in_vain_because_nobody_can_be_asked_is_told_why(make_backend: Make, postgres: Any) -> None:
    client = make_backend()
    postgres.kill()
    with pytest.raises(CeleryTimeoutError, match=r"PostgreSQL could not be asked: .*Connection refused"):
        client.app.AsyncResult("some-id").get(timeout=3)


def test_a_server_that_lets_nobody_in_for_now_is_waited_for(make_backend: Make, database: Any, postgres: Any) -> None:
    """One that is told to stop says 57P03 until the last session is over, as one that starts does until it has recovered."""
    client = make_backend()
    with psycopg.connect(database.owner_url):
        postgres._process.send_signal(signal.SIGTERM)
        waiting = in_background(client.app.AsyncResult("id").get)
        storing = in_background(make_backend().store_result, "id", 1, states.SUCCESS)
        until(lambda: "the database system is shutting down" in (client.listener.trouble or ""))
    # At once, for other sessions than that one may be open, which tests share.
    postgres.stop()
    assert not waiting.done()
    postgres.start()
    assert storing.result(SOON_S) == 1
    assert waiting.result(SOON_S) == 1


def wrong_urls(database: Any) -> dict[str, tuple[str, str]]:
    """Each with what PostgreSQL says to it."""
    address = urlsplit(database.url)
    role, password, where = address.username, address.password, f"{address.hostname}:{address.port}"
    return {
        "database": (f"{role}:{password}@{where}/no_such_database", '"no_such_database" does not exist'),
        # Of a role that there is not, a server that asks for passwords says no more than of a wrong one.
        "role": (f"nobody_here:{password}@{where}{address.path}", 'password authentication failed for user "nobody_here"'),
        "password": (f"{role}:wrong@{where}{address.path}", f'password authentication failed for user "{role}"'),
        "no password": (f"{role}@{where}{address.path}", "no password supplied"),
        "closed": (f"nologin_here:{password}@{where}{address.path}", 'role "nologin_here" is not permitted to log in'),
        "no right": (f"stranger_here:{password}@{where}{address.path}", f'permission denied for database "{address.path[1:]}"'),
    }


def calls_without_bound(app: Celery, backend: PostgresBackend) -> list[Callable[[], Any]]:
    """Return calls that ask PostgreSQL, none of which has a time-out or a bound of its tries."""
    result = app.AsyncResult("id")
    return [
        result.get,
        app.GroupResult("group", [result, app.AsyncResult("other")]).get,
        app.task(echo).delay(1).get,
        partial(getattr, result, "state"),
        partial(backend.store_result, "id", 1, states.SUCCESS),
        partial(backend.set_chord_size, "group", 1),
        result.forget,
        backend.cleanup,
    ]


def test_a_url_that_postgresql_lets_nobody_in_with_is_refused_at_once(database: Any) -> None:
    """None of these has a time-out, nor a bound of its tries."""
    password = urlsplit(database.url).password
    name = urlsplit(database.url).path[1:]
    database.execute(f"create role nologin_here nologin password '{password}'; create role stranger_here login password '{password}'")
    database.execute(f"revoke connect on database {name} from public; grant connect on database {name} to federation_service")
    try:
        for wrong, said in wrong_urls(database).values():
            app = Celery(broker="memory://", set_as_current=False)
            app._backend = backend = PostgresBackend(app, url=f"pgnotify+postgresql://{wrong}")
            for call in calls_without_bound(app, backend):
                with pytest.raises(NotLetIn, match=f"(?s){re.escape(said)}.*Set result_backend to the URL of a database and a role that are there"):
                    in_background(call).result(SOON_S)
            backend.close()
    finally:
        database.execute("drop role nologin_here; drop role stranger_here")


def test_who_waits_already_is_refused_when_the_password_changes_and_the_line_is_lost(make_backend: Make, database: Any) -> None:
    client = make_backend()
    waiting = [in_background(client.app.AsyncResult(f"id {number}").get) for number in range(3)]
    until(lambda: watched(client, 3)() and listening(database) == 1)
    role, password = urlsplit(database.url).username, urlsplit(database.url).password
    try:
        database.execute(f"alter role {role} password 'another'")
        database.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'celery-results%'")
        for each in waiting:
            with pytest.raises(NotLetIn, match="password authentication failed"):
                each.result(SOON_S)
    finally:
        database.execute(f"alter role {role} password '{password}'")
    again = in_background(client.app.AsyncResult("id").get)
    until(lambda: watched(client)() and listening(database) == 1)
    make_backend().store_result("id", 1, states.SUCCESS)
    assert again.result(SOON_S) == 1


@pytest.mark.parametrize("task_id", ["a" * 256, "a\0b"])
def test_a_task_whose_result_could_not_be_stored_is_not_sent(backend: PostgresBackend, task_id: str) -> None:
    with pytest.raises(IdRefused, match="wants at most 255, without NUL"):
        backend.on_task_call(None, task_id)
    backend.on_task_call(None, "a" * 255)
