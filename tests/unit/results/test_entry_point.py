"""How Celery finds the backend."""

import pickle
from importlib.metadata import entry_points

import pytest
from celery import Celery
from celery.app.backends import by_url

from federation.results.backend import PostgresBackend

URL = "pgnotify+postgresql://user:secret@127.0.0.1:1/work"


def app() -> Celery:
    app = Celery(set_as_current=False)
    app.conf.result_backend = URL
    app.loader.override_backends = {"pgnotify": "federation.results.backend:PostgresBackend"}
    return app


# Celery looks up what stands before the plus sign.
@pytest.mark.skipif(
    "pgnotify" not in entry_points(group="celery.result_backends").names, reason="the installed metadata lacks the entry point `pgnotify`"
)
def test_celery_finds_it_by_the_url() -> None:
    assert by_url(URL, Celery(set_as_current=False).loader) == (PostgresBackend, URL.removeprefix("pgnotify+"))


def test_one_instance_serves_all_threads_and_hides_its_password() -> None:
    celery = app()
    backend = celery.backend
    assert isinstance(backend, PostgresBackend)
    assert backend.thread_safe
    assert celery._backend_cache is backend
    assert "secret" not in backend.as_uri()


def test_it_can_be_pickled_with_its_url() -> None:
    celery = app()
    celery.set_current()
    assert pickle.loads(pickle.dumps(celery.backend)).options == celery.backend.options


@pytest.mark.parametrize("name", ["start", "close"])
def test_nothing_needs_the_server_before_the_first_statement(name: str) -> None:
    backend = app().backend
    backend.listener.start() if name == "start" else backend.close()
    backend.listener.stop()
