"""The lines for each MCP client are what it reads, and hold the address and the token."""

import json
from pathlib import Path

import pytest
import yaml

from federation.cli.mcp_clients import FILES, Client, configuration
from federation.mcp.where import mcp_url
from federation.settings import load


@pytest.mark.parametrize("client", Client)
def test_lines_can_be_read_and_hold_address_and_token(client: Client) -> None:
    text = configuration(client, url="http://127.0.0.1:8765/mcp", token="fed_x")
    told = yaml.safe_load(text) if client is Client.CONTINUE else json.loads(text)
    servers = told["servers" if client is Client.VSCODE else "mcpServers"]
    server = servers[0] if client is Client.CONTINUE else servers["federation"]
    headers = server["requestOptions"]["headers"] if client is Client.CONTINUE else server["headers"]
    assert server["url"] == "http://127.0.0.1:8765/mcp"
    assert headers == {"Authorization": "Bearer fed_x"}
    assert FILES[client]


@pytest.mark.parametrize("client", Client)
def test_lines_that_sign_start_a_stub_with_address_token_and_authority(client: Client) -> None:
    text = configuration(client, url="https://fed.example/mcp", token="fed_x", sign_as="carol", authority=Path("/a b/ca.pem"))
    told = yaml.safe_load(text) if client is Client.CONTINUE else json.loads(text)
    servers = told["servers" if client is Client.VSCODE else "mcpServers"]
    server = servers[0] if client is Client.CONTINUE else servers["federation"]
    assert (server["command"], server["args"]) == ("federation", ["mcp", "--url", "https://fed.example/mcp", "--as", "carol", "--ca", "/a b/ca.pem"])
    assert server["env"] == {"FEDERATION_TOKEN": "fed_x"}


@pytest.mark.parametrize(
    ("host", "near"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]"), ("10.0.0.7", "10.0.0.7")]
)
def test_address_of_the_door_can_be_called_from_here(monkeypatch: pytest.MonkeyPatch, host: str, near: str) -> None:
    monkeypatch.setenv("FEDERATION_MCP_HOST", host)
    assert mcp_url(load()) == f"http://{near}:8765/mcp"
    everywhere = host in ("0.0.0.0", "::")
    assert (mcp_url(load(), for_others=True) != mcp_url(load())) is everywhere
