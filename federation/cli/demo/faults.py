"""Step 9: kill the process that holds a running execution, and see it finished by another delivery, once."""

import asyncio
import os
import signal

from federation.cli.demo.stage import ADA, BOB, EVE, DemoFailed, Stage, check, heading, said, say
from federation.local import children, state
from federation.local.home import Home

NODE = "aorus"


async def kill(stage: Stage) -> None:
    """SIGKILL a worker in the middle of a completion."""
    heading(9, "SIGKILL the process that holds a running execution")
    await wait_until_idle(stage)
    asked = await stage.call(
        ADA,
        "federation_infer",
        prompt="Tell a long story of a lighthouse keeper who repairs a radio.",
        max_tokens=350,
        temperature=0.7,
        node=NODE,
        wait_s=0,
    )
    execution_id = asked["execution_id"]
    running = "select pid, worker from execution_deliveries where execution_id = %s"
    first = (await stage.until("the first delivery", lambda: stage.sql(running, execution_id)))[0]
    if stage.sql("select 1 from model_runs where execution_id = %s", execution_id):
        raise DemoFailed("the model answered before it could be killed; run the demo again")
    refuse_a_stranger(stage, first.pid, first.worker)
    os.kill(first.pid, signal.SIGKILL)
    say(f"killed pid {first.pid}, {first.worker}, which was writing the story")
    await stage.until("the end of the process", lambda: not children.is_alive(first.pid), within_s=10)
    await _sees(stage, stale=True)
    await _sees(stage, stale=False)
    answer = await stage.call(ADA, "federation_task_result", task_id=execution_id, wait_s=90)
    said(ADA, "federation_task_result", f"state={answer['state']}, done_by={answer['done_by']}")
    check(answer["state"] == "completed", "the execution was finished by another delivery")
    deliveries = stage.sql("select number, pid, redelivered from execution_deliveries where execution_id = %s order by number", execution_id)
    check(
        len(deliveries) >= 2,
        "deliveries: " + ", ".join(f"{row.number} to pid {row.pid}{' (redelivered)' if row.redelivered else ''}" for row in deliveries),
    )
    check(stage.one("select count(*) from execution_effects where execution_id = %s", execution_id) == 1, "the effect ledger has one effect")
    check(stage.one("select count(*) from model_runs where execution_id = %s", execution_id) == 1, "one completion is recorded")


async def wait_until_idle(stage: Stage) -> None:
    """Wait until the node does nothing for others, whose work would be interrupted and delivered again."""
    of_others = """
        select count(*) from executions e join execution_deliveries d on d.execution_id = e.id
        where d.worker like %s and d.delivered_at > now() - interval '10 minutes' and e.actor <> all(%s) and e.outcome is null
            and e.cancelled_at is null and not exists (select 1 from celery_results r where r.task_id = e.id::text)
        """
    try:
        await stage.until("an idle node", lambda: stage.one(of_others, f"{NODE}@%", [ADA, BOB, EVE]) == 0, within_s=60)
    except DemoFailed as error:
        raise DemoFailed(f"{NODE} works for others and is not killed ({error}); run the demo again later") from error


def refuse_a_stranger(stage: Stage, pid: int, worker: str) -> None:
    """Pass if the process is the worker of our own federation: a pid from another machine may be anybody's here. Raises DemoFailed."""
    view = state.running(Home(stage.settings.data_dir))
    ours = next((part for part in view.parts if part.name == NODE and part.alive), None) if view else None
    try:
        group = os.getpgid(pid)
    except ProcessLookupError:
        group = None
    if ours is None or group != ours.pid:
        raise DemoFailed(f"{worker} (pid {pid}) is not a worker of the federation in {stage.settings.data_dir}, and is not killed")


async def _sees(stage: Stage, *, stale: bool) -> None:
    for _ in range(300):
        rows = (await stage.call(EVE, "federation_pulse"))["rows"]
        node = next(row for row in rows if row["name"] == NODE and row["kind"] == "node")
        if node["stale"] is stale:
            check(True, f"federation_pulse shows {NODE} {'stale' if stale else 'alive again'}, last seen {node['age_s']:.1f} s ago")
            return
        await asyncio.sleep(0.2)
    raise DemoFailed(f"{NODE} did not turn {'stale' if stale else 'alive again'} within a minute")
