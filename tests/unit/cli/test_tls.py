"""For which names `federation tls init` makes certificates."""

from pathlib import Path

from federation.cli import tls
from federation.settings import Settings


def test_hosts_of_the_settings_come_without_what_no_certificate_names(tmp_path: Path) -> None:
    allowed = ["*", "door.example:8765", "*.corp.example", "[::2]:80"]
    config = Settings(data_dir=tmp_path, mcp_host="0.0.0.0", stomp_host="10.0.0.7", mcp_url="https://fed.example/mcp", mcp_allowed_hosts=allowed)
    assert tls._known_hosts(config) == ["10.0.0.7", "fed.example", "door.example", "*.corp.example", "::2"]
