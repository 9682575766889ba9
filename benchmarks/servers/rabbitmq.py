"""RabbitMQ from Debian's package, as a plain process on loopback with a node name, a cookie and data of its own; drops all when it ends."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.running import Running
from benchmarks.servers import installed
from benchmarks.servers.peer import Peer
from federation.local.parts import Part
from federation.local.ports import LOOPBACK, free_port

NAME = "RabbitMQ + rpc"
PACKAGE = "rabbitmq-server"
_GREETING = b"AMQP\x00\x00\x09\x01"
# What RabbitMQ's own start script gives to Erlang.
_ERLANG_OPTIONS = (
    *("+W", "w", "+MBas", "ageffcbf", "+MHas", "ageffcbf", "+MBlmbcs", "512", "+MHlmbcs", "512", "+MMmcs", "30", "+P", "1048576", "+t", "5000000"),
    *("+stbt", "db", "+zdbbl", "128000", "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none", "+B", "i"),
    *("-syslog", "logger", "[]", "-syslog", "syslog_error_logger", "false", "-kernel", "prevent_overlapping_partitions", "false"),
    *("-kernel", "inet_dist_use_interface", "{127,0,0,1}", "-start_epmd", "false"),
)


@contextmanager
def start(running: Running) -> Iterator[Peer]:
    """Run the broker and the port mapper that it asks for. Raises LocalServiceError when it cannot be had or does not come up."""
    rabbitmq = installed.find(PACKAGE, "usr/lib/rabbitmq/lib/rabbitmq_server-*")
    programs = installed.find(PACKAGE, "usr/lib/erlang/erts-*/bin")
    home, port, mapper_port = running.folder_of("rabbitmq"), free_port(), free_port()
    environment = ["env", *(f"{name}={value}" for name, value in _environment(home, rabbitmq, programs, mapper_port).items())]
    (home / "rabbitmq.conf").write_text(f"listeners.tcp.1 = {LOOPBACK}:{port}\n")
    erlang = programs.parent.parent
    mapper = Part(
        name="epmd",
        command=[*environment, programs / "epmd", "-port", str(mapper_port)],
        is_ready=lambda: _listens(mapper_port),
        cwd=home,
    )
    broker = Part(
        name="rabbitmq",
        command=[*environment, programs / "erlexec", "-noinput", "-s", "rabbit", "boot", "-boot", erlang / "bin" / "start_sasl", *_ERLANG_OPTIONS],
        is_ready=lambda: _greets(port),
        cwd=home,
        ready_within_s=90.0,
        grace_s=15.0,
    )
    with running.part(mapper), running.part(broker) as pid:
        yield Peer(
            name=NAME,
            broker_url=f"pyamqp://guest:guest@{LOOPBACK}:{port}//",
            result_backend="rpc://",
            versions={"RabbitMQ": rabbitmq.name.rpartition("-")[2], "Erlang/OTP": next((erlang / "releases").glob("[0-9]*")).name},
            durability="durable queues, persistent messages, publisher confirms; results are transient messages to the caller, not on disk, "
            "which is rpc's default",
            broker_pid=pid,
        )


def _environment(home: Path, rabbitmq: Path, programs: Path, mapper_port: int) -> dict[str, str]:
    return {
        "HOME": str(home),
        "ROOTDIR": str(programs.parent.parent),
        "BINDIR": str(programs),
        "EMU": "beam",
        "PROGNAME": "erl",
        "ERL_LIBS": str(rabbitmq / "plugins"),
        "ERL_CRASH_DUMP": "/dev/null",
        "ERL_EPMD_ADDRESS": LOOPBACK,
        "ERL_EPMD_PORT": str(mapper_port),
        "RABBITMQ_HOME": str(rabbitmq),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_FEATURE_FLAGS_FILE": str(home / "feature_flags"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(home / "generated"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_NODENAME": "benchmark@localhost",
        "RABBITMQ_PLUGINS_DIR": str(rabbitmq / "plugins"),
    }


def _listens(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), timeout=2).close()
    except OSError:
        return False
    return True


def _greets(port: int) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=2) as connection:
            connection.sendall(_GREETING)
            return connection.recv(1) == b"\x01"  # the first byte of a method frame
    except OSError:
        return False
