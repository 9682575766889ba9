"""Passwords are made once and kept; settings follow from them and leave others' values alone."""

from pathlib import Path

import pytest

from federation.local import credentials
from federation.local.activemq import OBSERVER, OPERATOR, USERS
from federation.local.home import Home, read_json, write_json


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "data")
    made.create()
    return made


def save(home: Home, made: credentials.Credentials, *, broker: bool = True, database: bool = True) -> None:
    credentials.save(home, made, local_broker=broker, local_database=database, others={"mcp_port": 9000})


def test_second_start_has_the_passwords_and_free_ports_of_the_first(home: Home) -> None:
    first = credentials.with_free_ports(credentials.load_or_make(home))
    save(home, first)
    assert credentials.with_free_ports(credentials.load_or_make(home)) == first


def test_each_role_has_a_password_of_its_own(home: Home) -> None:
    made = credentials.load_or_make(home)
    assert len({*made.roles.values(), *made.users.values(), made.flower}) == 12


def test_settings_name_the_local_services(home: Home) -> None:
    made = credentials.with_free_ports(credentials.load_or_make(home))
    save(home, made)
    told = read_json(home.settings_file)
    assert told["broker_url"] == made.broker_url()
    assert told["database_url"].startswith("postgresql://federation_app:")
    assert told["database_owner_url"].startswith("postgresql://federation_owner:")
    assert told["mcp_port"] == 9000


def test_passwords_that_an_older_version_did_not_make_are_made(home: Home) -> None:
    older = {
        "roles": {},
        "users": {"admin": "a", "federation": "b", "peer": "c"},
        "speakers": {"bob": "e"},
        "flower": "d",
        "postgres_port": 1,
        "activemq_port": 2,
    }
    write_json(home.secrets_file, older)
    write_json(home.settings_file, {"broker_url": "activemq://federation:b@127.0.0.1:2/"})
    made = credentials.load_or_make(home)
    assert (made.users["admin"], made.users["peer"], made.flower) == ("a", "c", "d")
    assert set(USERS) < set(made.users)
    save(home, made)
    assert read_json(home.settings_file)["broker_url"] == made.broker_url(OPERATOR)
    assert credentials.load_or_make(home) == made


def test_settings_hold_the_urls_of_who_sits_here_and_of_who_watches(home: Home) -> None:
    made = credentials.load_or_make(home)
    save(home, made)
    told = home.settings_file.read_text()
    assert {user for user in USERS if made.users[user] in told} == {OPERATOR, OBSERVER}
    assert home.secrets_file.stat().st_mode & 0o777 == home.settings_file.stat().st_mode & 0o777 == 0o600


def test_settings_of_other_origin_stay(home: Home) -> None:
    write_json(home.settings_file, {"log_level": "DEBUG"})
    save(home, credentials.with_free_ports(credentials.load_or_make(home)))
    assert read_json(home.settings_file)["log_level"] == "DEBUG"


def test_moving_to_a_database_elsewhere_forgets_the_urls_of_the_local_one(home: Home) -> None:
    made = credentials.with_free_ports(credentials.load_or_make(home))
    save(home, made)
    save(home, made, database=False)
    assert not [key for key in read_json(home.settings_file) if key.startswith("database")]


def test_url_with_a_password_of_ours_is_ours(home: Home) -> None:
    made = credentials.load_or_make(home)
    assert made.owns(made.broker_url())
    assert not made.owns("activemq://federation:other@broker.example:61613/")
