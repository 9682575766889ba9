"""`federation serve` and `federation mcp`: the front door over HTTP and over stdio."""

from federation import frontdoor


def serve() -> None:
    """Serve MCP over HTTP at /mcp, and /health, until Ctrl-C."""
    frontdoor.serve()


def mcp() -> None:
    """Serve MCP over standard input and output to the client that started it; FEDERATION_TOKEN says who that is."""
    frontdoor.serve_stdio()
