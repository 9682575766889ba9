"""A Celery project that knows nothing of the federation but its transport; the tests start its workers, and kill them.

FAULTS_SETTINGS holds more of Celery's settings as JSON, FAULTS_DIARY the file to which each run of a task adds a line;
FAULTS_QUIT_AT is 0, or the number of the point in its own code at which a worker asks itself to end; or -1 for the moment in which
a task runs, and -2 for that in which it has ended, and the worker, which is reading then, has not heard so from its child.
"""

import json
import os
import signal
import sys
import time
from opcode import opname
from pathlib import Path
from types import FrameType
from typing import Any

from celery import Celery, Task
from celery.signals import task_received, worker_ready
from kombu.asynchronous import get_event_loop

import federation.broker  # noqa: F401  # registers activemq://

DIARY = os.environ["FAULTS_DIARY"]
TRACED = ("federation/broker/", "concurrent/futures/thread.py")
POINTS = frozenset({"RESUME", "CALL", "CALL_FUNCTION_EX", "JUMP_BACKWARD"})

app = Celery("faults")
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    task_default_queue="work",
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # Longer than ActiveMQ takes to start on a busy machine is not needed: nobody listens, or somebody answers.
    broker_connection_timeout=2,
    worker_hijack_root_logger=False,
)
app.conf.update(json.loads(os.environ["FAULTS_SETTINGS"]))


def note(task: Task, what: str) -> None:
    """Say that a run starts or ends."""
    write(f"{what} {task.request.id} {os.getppid()} {os.getpid()} {bool(task.request.delivery_info.get('redelivered'))}")


def write(line: str) -> None:
    """Add a line, with the time of a clock that all processes share, in one write: lines of many do not mix, and a kill leaves none half written."""
    diary = os.open(DIARY, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(diary, f"{line} {time.monotonic()}\n".encode())
    finally:
        os.close(diary)


@worker_ready.connect
def quit_in_the_middle(**_: Any) -> None:
    """Ask the worker to end cold at one point of its main thread, in the transport or where that gives a task to a pool of threads.

    Points are where Python lets a signal's handler run: after a call, at the begin of a function and of each turn of a loop.
    """
    remaining = number = int(os.environ["FAULTS_QUIT_AT"])
    before: dict[FrameType, str] = {}

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal remaining
        if event == "call":
            frame.f_trace_opcodes = any(place in frame.f_code.co_filename for place in TRACED)
            return trace if frame.f_trace_opcodes else None
        if event == "return":
            before.pop(frame, None)
        elif event == "opcode":
            remaining -= before.get(frame) in POINTS
            before[frame] = opname[frame.f_code.co_code[frame.f_lasti]]
            if remaining == 0:
                sys.settrace(None)
                write(f"quit {number}:{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {os.getpid()} {os.getpid()} False")
                signal.raise_signal(signal.SIGQUIT)
        return trace

    if remaining > 0:
        sys.settrace(trace)


@task_received.connect
def quit_before_it_is_heard(request: Any, **_: Any) -> None:
    """Ask the worker to end cold as soon as the task runs, or has ended, before its loop reads anything more of its child."""
    if os.environ["FAULTS_QUIT_AT"] in ("-1", "-2"):
        get_event_loop().call_soon(quit_when_it_runs, request)


def quit_when_it_runs(request: Any) -> None:
    """Let the loop turn until it has written the task to its child, wait until that runs it, or has run it, and send the signal."""
    if getattr(request._apply_result and request._apply_result(), "_writer", None) is None:
        get_event_loop().call_soon(quit_when_it_runs, request)
        return
    ends = os.environ["FAULTS_QUIT_AT"] == "-2"
    while f"{'end' if ends else 'start'} {request.id} " not in Path(DIARY).read_text():
        time.sleep(0.01)

    def quit_now() -> bool:
        signal.raise_signal(signal.SIGQUIT)
        return True

    if ends:
        # Until the child has said so too; what it waits for then is the worker.
        time.sleep(0.5)
        request.message.channel.wire.read(0, quit_now)
    else:
        quit_now()


def refuse_after_two(message: Any) -> str | None:
    """Say no to a task that comes back for the third time: the transport's hook, with the diary as its store."""
    task_id = message.headers["id"]
    write(f"again {task_id} {os.getpid()} {os.getpid()} True")
    times = sum(line.startswith(f"again {task_id} ") for line in Path(DIARY).read_text().splitlines())
    return f"came back {times} times" if times > 2 else None


@app.task(bind=True, name="work")
def work(self: Task, seconds: float = 0.0) -> None:
    """Take so long, and say so at the start and the end."""
    note(self, "start")
    time.sleep(seconds)
    note(self, "end")


@app.task(bind=True, name="hold")
def hold(self: Task, gate: str) -> None:
    """Run until a file appears."""
    note(self, "start")
    while not Path(gate).exists():
        time.sleep(0.01)
    note(self, "end")


@app.task(bind=True, name="block")
def block(self: Task, gate: str) -> None:
    """Run until a file appears, without letting any other greenlet run meanwhile."""
    note(self, "start")
    while not Path(gate).exists():
        # gevent replaces `time.sleep` and not this.
        signal.sigtimedwait((), 0.01)
    note(self, "end")


@app.task(bind=True, name="die")
def die(self: Task, times: int, whole_worker: bool) -> None:
    """Kill the process that runs this, or its whole worker, in the first so many runs."""
    note(self, "start")
    runs = sum(line.startswith(f"start {self.request.id} ") for line in Path(DIARY).read_text().splitlines())
    if runs <= times:
        if whole_worker:
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    note(self, "end")
