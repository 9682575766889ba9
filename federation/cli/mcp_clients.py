"""What MCP clients want in their configuration to reach the front door; writes no file."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Any

NAME = "federation"


class Client(StrEnum):
    """A client whose configuration we know."""

    CLAUDE_CODE = "claude-code"
    CLINE = "cline"
    CONTINUE = "continue"
    VSCODE = "vscode"
    CURSOR = "cursor"


# Where the lines go; a person reads this beside them.
FILES = {
    Client.CLAUDE_CODE: ".mcp.json in the project's folder",
    Client.CLINE: "cline_mcp_settings.json (in Cline: MCP Servers, Configure)",
    Client.CONTINUE: ".continue/mcpServers/federation.yaml",
    Client.VSCODE: ".vscode/mcp.json",
    Client.CURSOR: ".cursor/mcp.json",
}
_CONTINUE = (f"name: {NAME}", "version: 0.0.1", "schema: v1", "mcpServers:", f"  - name: {NAME}")


def configuration(client: Client, *, url: str, token: str, sign_as: str | None = None, authority: Path | None = None) -> str:
    """Return the lines for this client's file; to `sign_as` an agent it starts `federation mcp --url`, which trusts the authority."""
    if sign_as is not None:
        return _signing(client, ["mcp", "--url", url, "--as", sign_as, *(["--ca", str(authority)] if authority else [])], {"FEDERATION_TOKEN": token})
    headers = {"Authorization": f"Bearer {token}"}
    if client is Client.CONTINUE:
        return "\n".join(
            (
                *_CONTINUE,
                "    type: streamable-http",
                f"    url: {json.dumps(url)}",
                "    requestOptions:",
                "      headers:",
                f"        Authorization: {json.dumps(headers['Authorization'])}",
            )
        )
    server: dict[str, Any] = {"url": url, "headers": headers}
    if client in {Client.CLAUDE_CODE, Client.VSCODE}:
        server = {"type": "http", **server}
    elif client is Client.CLINE:
        server = {"type": "streamableHttp", **server}
    return _json(client, server)


def _signing(client: Client, arguments: list[str], environment: dict[str, str]) -> str:
    if client is Client.CONTINUE:
        variables = [f"      {name}: {json.dumps(value)}" for name, value in environment.items()]
        given = [f"    args: {json.dumps(arguments)}", "    env:", *variables]
        return "\n".join((*_CONTINUE, "    type: stdio", f"    command: {NAME}", *given))
    server = {"command": NAME, "args": arguments, "env": environment}
    return _json(client, {"type": "stdio", **server} if client in {Client.CLAUDE_CODE, Client.VSCODE} else server)


def _json(client: Client, server: dict[str, Any]) -> str:
    return json.dumps({"servers" if client is Client.VSCODE else "mcpServers": {NAME: server}}, indent=2)
