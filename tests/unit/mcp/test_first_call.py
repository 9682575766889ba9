"""What the front door has loaded before its first call."""

import subprocess
import sys

LOADED = """
import sys
import federation.frontdoor
before = set(sys.modules)
from fastmcp import FastMCP
FastMCP("any")._state_store
print(*sorted(name for name in set(sys.modules) - before if name.startswith("key_value")))
"""


def test_first_call_of_a_tool_imports_no_store() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
