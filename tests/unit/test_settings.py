"""A wrong setting stops the start with its name, what it got and what it wants."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.errors import NotFound, SettingsError
from federation.settings import BROKER_URLS, load


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("FEDERATION_MCP_PORT", "eighty", "FEDERATION_MCP_PORT: got 'eighty', wants a valid integer"),
        ("FEDERATION_MCP_URL", "https://fed.example/", "FEDERATION_MCP_URL: got 'https://fed.example/', wants a URL such as https://fed.example/mcp"),
        ("FEDERATION_JWT_ISSUER", "lab", "FEDERATION_JWT_ISSUER: got 'lab', wants a URL such as https://login.example/realms/lab"),
        ("FEDERATION_MCP_PORT", "0", "FEDERATION_MCP_PORT: got '0', wants greater than or equal to 1"),
        ("FEDERATION_NODE_BEAT_S", "-1", "FEDERATION_NODE_BEAT_S: got '-1', wants greater than 0"),
        ("FEDERATION_LOG_LEVEL", "LOUD", "FEDERATION_LOG_LEVEL: got 'LOUD', wants 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("FEDERATION_CLAIM_TTL_S", "0.5", "FEDERATION_CLAIM_TTL_S: got '0.5', wants"),
        ("FEDERATION_MCP_PROT", "8765", "no setting 'FEDERATION_MCP_PROT'; nearest: FEDERATION_MCP_PORT"),
        ("FEDERATION_ACTIVEMQ_HOME", "/opt", "no setting 'FEDERATION_ACTIVEMQ_HOME'; nearest: FEDERATION_STOMP_HOST, ACTIVEMQ_HOME"),
        ("FEDERATION_INDEX_ROOTS", "/srv", "FEDERATION_INDEX_ROOTS: got '/srv', wants JSON"),
        ("FEDERATION_INDEX_ROOTS", '["srv"]', "FEDERATION_INDEX_ROOTS[0]: got 'srv', wants an absolute path"),
        ("FEDERATION_DATA_DIR", "data", "FEDERATION_DATA_DIR: got 'data', wants an absolute path, such as /"),
        ("FEDERATION_DATA_DIR", __file__, f"FEDERATION_DATA_DIR: got '{__file__}', wants a folder"),
        ("ACTIVEMQ_HOME", "amq", "ACTIVEMQ_HOME: got 'amq', wants an absolute path"),
        ("FEDERATION_BROKER_URL", "amqp://a:b@host/", "FEDERATION_BROKER_URL: got 'amqp://a:•••@host/', wants a URL such as activemq://"),
        ("FEDERATION_BROKER_URL", "activemq://host:99999/", "wants a URL such as activemq://user:password@host:61613/"),
        ("FEDERATION_BROKER_URL", "activemq:///", "wants a URL such as activemq://"),
        (
            "FEDERATION_DATABASE_URL",
            "postgres://a:b@host/f",
            "FEDERATION_DATABASE_URL: got 'postgres://a:•••@host/f', wants a URL such as postgresql://",
        ),
        ("FEDERATION_DATABASE_URL", "postgresql://a:b@host:port/f", "wants a URL such as postgresql://user:password@host:5432/federation"),
    ],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=re.escape(says)):
        load()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "settings.json does not hold an object of JSON"),
        ("[1]", "settings.json does not hold an object of JSON"),
        ('{"mcp_prot": 1}', "settings.json: no setting 'mcp_prot'; nearest: mcp_port"),
        ('{"mcp_port": "x"}', "FEDERATION_MCP_PORT: got 'x' in "),
    ],
)
def test_a_wrong_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "settings.json").write_text(content)
    monkeypatch.setenv("FEDERATION_DATA_DIR", str(tmp_path))
    with pytest.raises(SettingsError, match=re.escape(says)) as told:
        load()
    assert str(tmp_path / "settings.json") in str(told.value)


def test_the_home_of_the_user_may_be_written_short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "settings.json").write_text('{"mcp_port": 7001}')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FEDERATION_DATA_DIR", "~/data")
    settings = load()
    assert (settings.data_dir, settings.mcp_port) == (tmp_path / "data", 7001)


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(json.dumps({"mcp_port": 7001, "flower_port": 7002}))
    monkeypatch.setenv("FEDERATION_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("FEDERATION_MCP_PORT", "7003")
    settings = load()
    assert (settings.mcp_port, settings.flower_port, settings.data_dir) == (7003, 7002, tmp_path)


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDERATION_BROKER_URL", "activemq://user:hunter2@localhost:61613/")
    assert "hunter2" not in repr(load())


@given(st.text(min_size=1), st.lists(st.text(min_size=1), max_size=8))
def test_an_unknown_name_suggests_only_names_that_exist(name: str, existing: list[str]) -> None:
    assert set(NotFound("agent", name, existing).nearest) <= set(existing)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BROKER_URL", "http://ops:hunter2@host"),
        ("DATABASE_URL", "//ops:hunter2@host"),
        ("DATABASE_URL", "mysql://ops:a hunter2@host/x"),
        ("DATABASE_URL", "mysql://ops:hunter2@host/x"),
        ("DATABASE_URL", "mysql://ops:a@hunter2/b@host/x"),
    ],
)
def test_a_url_of_another_kind_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"FEDERATION_{name}", value)
    with pytest.raises(SettingsError, match=f"FEDERATION_{name}: got") as refusal:
        load()
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("name", BROKER_URLS)
def test_a_url_of_the_broker_may_say_tls(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    url = "activemqs://user:words@broker.example:61614/?ssl_ca_certs=%2Fetc%2Fca.pem"
    monkeypatch.setenv(f"FEDERATION_{name.upper()}", url)
    assert getattr(load(), name).get_secret_value() == url
