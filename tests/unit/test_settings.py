"""A wrong setting stops the start with its name, what it got and what it wants."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.errors import NotFound, SettingsError
from federation.settings import load


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("FEDERATION_MCP_PORT", "eighty", "FEDERATION_MCP_PORT: got 'eighty', wants"),
        ("FEDERATION_NODE_BEAT_S", "-1", "FEDERATION_NODE_BEAT_S: got '-1', wants"),
        ("FEDERATION_CLAIM_TTL_S", "0.5", "FEDERATION_CLAIM_TTL_S: got '0.5', wants"),
        ("FEDERATION_LOG_LEVEL", "LOUD", "FEDERATION_LOG_LEVEL: got 'LOUD', wants"),
        ("FEDERATION_MCP_PROT", "8765", "no setting 'FEDERATION_MCP_PROT'; nearest: FEDERATION_MCP_PORT"),
    ],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=says):
        load()


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(json.dumps({"mcp_port": 7001, "flower_port": 7002}))
    monkeypatch.setenv("FEDERATION_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("FEDERATION_MCP_PORT", "7003")
    settings = load()
    assert (settings.mcp_port, settings.flower_port, settings.data_dir) == (7003, 7002, tmp_path)


def test_an_unknown_key_in_the_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(json.dumps({"mcp_prot": 7001}))
    monkeypatch.setenv("FEDERATION_DATA_DIR", str(tmp_path))
    with pytest.raises(SettingsError, match="MCP_PROT"):
        load()


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDERATION_BROKER_URL", "activemq://user:hunter2@localhost:61613/")
    assert "hunter2" not in repr(load())


@given(st.text(min_size=1), st.lists(st.text(min_size=1), max_size=8))
def test_an_unknown_name_suggests_only_names_that_exist(name: str, existing: list[str]) -> None:
    assert set(NotFound("agent", name, existing).nearest) <= set(existing)


@pytest.mark.parametrize(
    ("name", "value"), [("BROKER_URL", "http://ops:hunter2@host"), ("DATABASE_URL", "foo"), ("DATABASE_URL", "mysql://ops:hunter2@host/x")]
)
def test_a_url_of_another_kind_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"FEDERATION_{name}", value)
    with pytest.raises(SettingsError, match=f"FEDERATION_{name}: got") as refusal:
        load()
    assert "hunter2" not in str(refusal.value)
