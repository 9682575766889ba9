"""What a front door elsewhere is called with starts without the database's side."""

import subprocess
import sys

HEAVY = ("sqlalchemy", "psycopg", "celery", "kombu", "torch", "numpy", "lancedb")
PROGRAM = f"import sys, federation.cli.main, federation.cli.mcp, federation.stub.server; print([name for name in {HEAVY!r} if name in sys.modules])"


def test_it_loads_no_database_no_broker_and_no_model() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
