"""Servers started outside of the supervisor, as test fixtures do, die with the process that started them."""

import subprocess
import sys
import tempfile
from pathlib import Path

from federation.local import children

STARTER = """
import sys, time
from pathlib import Path
from federation.local import jars, parts
from federation.local.activemq import USERS, ActiveMQ
from federation.local.ports import free_port
from federation.local.postgres import Postgres
from federation.settings import settings
root = Path(sys.argv[1])
found = jars.find_or_fetch(settings().activemq_home, settings().cache_dir)
for part in (Postgres(root / "pg", free_port(), durable=False).part(),
             ActiveMQ(root / "amq", free_port(), dict.fromkeys(USERS, "secret"), found).part()):
    print(parts.run(part, root / "log").pid, flush=True)
time.sleep(600)
"""


def test_servers_die_with_a_killed_test_run() -> None:
    with tempfile.TemporaryDirectory(prefix="federation-orphans-") as folder:
        Path(folder).chmod(0o711)
        starter = subprocess.Popen([sys.executable, "-c", STARTER, folder], stdout=subprocess.PIPE, text=True)
        assert starter.stdout
        pids = [int(starter.stdout.readline()) for _ in range(2)]
        assert all(children.is_alive(pid) for pid in pids)
        starter.kill()
        starter.communicate()
        assert children.wait_until(lambda: not any(children.is_alive(pid) for pid in pids), 60)
        assert children.wait_until(lambda: not children.working_in(Path(folder) / "pg" / "cluster"), 60)
