"""The URL of the result backend."""

import pytest
from psycopg.conninfo import conninfo_to_dict

from federation.results.errors import WrongUrl
from federation.results.options import Options, parse


def test_own_parameters_are_read_and_the_rest_goes_to_libpq() -> None:
    options = parse("pgnotify+postgresql://u:p%40ss@db:5433/work?schema=jobs&channel=done&recheck=2.5&connections=3&sslmode=require")
    assert (options.schema, options.channel, options.recheck_s, options.connections) == ("jobs", "done", 2.5, 3)
    libpq = conninfo_to_dict(options.conninfo)
    assert (libpq["user"], libpq["password"], libpq["host"], libpq["port"], libpq["dbname"]) == ("u", "p@ss", "db", "5433", "work")
    assert libpq["sslmode"] == "require"
    assert "schema" not in libpq


def test_what_celery_leaves_of_the_url_is_enough() -> None:
    options = parse("postgresql://u@db/work")
    assert options == Options(conninfo=options.conninfo)


def test_a_time_out_in_the_url_or_the_environment_wins_over_ours(monkeypatch) -> None:
    monkeypatch.delenv("PGCONNECT_TIMEOUT", raising=False)
    assert conninfo_to_dict(parse("postgresql://db/work").conninfo)["connect_timeout"] == "5"
    assert conninfo_to_dict(parse("postgresql://db/work?connect_timeout=77").conninfo)["connect_timeout"] == "77"
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "88")
    assert "connect_timeout" not in conninfo_to_dict(parse("postgresql://db/work").conninfo)


def test_what_goes_to_libpq_means_the_same_to_it() -> None:
    there = "/srv/a b+c&d/ca.pem"
    found = conninfo_to_dict(parse("postgresql://db/work?sslmode=verify-full&sslrootcert=%2Fsrv%2Fa%20b%2Bc%26d%2Fca.pem").conninfo)
    assert (found["sslmode"], found["sslrootcert"]) == ("verify-full", there)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("chanel", "did you mean channel"),
        ("Recheck", "did you mean recheck"),
        ("ssl_mode", "did you mean sslmode"),
        ("colour", "its own are channel"),
    ],
)
def test_a_parameter_that_nobody_knows_is_refused_with_the_nearest_name(name: str, nearest: str) -> None:
    with pytest.raises(WrongUrl, match=f"{name!r} in the URL of the result backend .*; {nearest}"):
        parse(f"postgresql://db/work?{name}=x")


def test_what_libpq_takes_in_a_url_passes() -> None:
    parse("postgresql://db/work?ssl=true&application_name=me&options=-c%20work_mem%3D8MB&target_session_attrs=any&host=a,b&port=1,2")


@pytest.mark.parametrize(
    "url",
    [
        *(
            "redis://db/0",
            "pgnotify+mysql://db/0",
            "postgresql://db/x?recheck=soon",
            "postgresql://db/x?recheck=0",
            "postgresql://db/x?connections=0",
        ),
        *(f"postgresql://db/x?{name}={number}" for name in ("recheck", "connections") for number in ("nan", "inf", "-inf")),
        "postgresql://db/x?recheck=1e7",
    ],
)
def test_a_wrong_url_is_refused(url: str) -> None:
    with pytest.raises(WrongUrl, match="result backend"):
        parse(url)
