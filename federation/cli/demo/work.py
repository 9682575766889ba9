"""Steps 5 and 6: delegate to agents and to a node, and ask a language model through the queue."""

import asyncio

from fastmcp.exceptions import ToolError

from federation.cli.demo.stage import ADA, BOB, CONVERSATION, EVE, DemoFailed, Stage, check, heading, said, short, shown

DEVELOPER_NODE = "aorus"


async def delegate_to_agents(stage: Stage) -> None:
    """Two agents race for a task; one wins, and only the winner can complete it."""
    heading(5, "Delegate: two agents race for one task; a node's role gets another")
    for member in (BOB, EVE):
        await stage.call(ADA, "federation_send", content="Join us: the auth module needs work.", to=member, conversation_id=CONVERSATION)
    said(ADA, "federation_send", f"{BOB} and {EVE} are members of {CONVERSATION} now; nobody else sees its tasks")
    name = f"memory-profile-{stage.run}"
    given = await stage.call(
        ADA,
        "federation_delegate",
        description="Profile memory allocation in auth module",
        executor="agent",
        task_id=name,
        conversation_id=CONVERSATION,
    )
    said(ADA, "federation_delegate", shown(given, "slug", "executor", "state"))
    racers = (BOB, EVE)
    outcomes = await asyncio.gather(
        *(stage.call(racer, "federation_claim_task", task_id=name, description="Running valgrind analysis") for racer in racers)
    )
    for racer, outcome in zip(racers, outcomes, strict=True):
        said(racer, "federation_claim_task", shown(outcome, "claimed", "holder", "fencing_token"))
    winners = [racer for racer, outcome in zip(racers, outcomes, strict=True) if outcome["claimed"]]
    check(len(winners) == 1, "one won, and the other was told who holds it")
    winner, loser = winners[0], next(racer for racer in racers if racer != winners[0])
    token = outcomes[racers.index(winner)]["fencing_token"]
    try:
        await stage.call(loser, "federation_complete_task", task_id=name, fencing_token=token, result={"says": "mine"})
    except ToolError as refusal:
        said(loser, "federation_complete_task", f"[yellow]{short(str(refusal))}[/]")
    else:
        raise DemoFailed("the loser's completion was accepted")
    await stage.call(winner, "federation_complete_task", task_id=name, fencing_token=token, result={"leaks": 0, "peak_mib": 48})
    read = await stage.call(ADA, "federation_task_result", task_id=name)
    said(ADA, "federation_task_result", shown(read, "state", "done_by", "result"))
    row = stage.sql("select status, assigned_to, result from agent_tasks where id = %s", given["task_id"])[0]
    check((row.status, row.assigned_to, row.result["leaks"]) == ("completed", winner, 0), f"the database has the task completed by {winner}")
    events = stage.sql("select type, actor from events where stream = %s order by position", f"task:{given['task_id']}")
    types = [event.type for event in events if event.type != "statement.made"]
    check(types == ["task.created", "task.claimed", "task.completed"], "its events: " + ", ".join(event.type for event in events))
    stated = [event.actor for event in events if event.type == "statement.made"]
    check((stated.count(winner), stated.count(loser)) == (2, 0), "stated: the claim and the completion of the one who won")


async def delegate_to_a_node(stage: Stage) -> None:
    """A task for the developer's role runs on the developer's node and nowhere else."""
    given = await stage.call(
        ADA,
        "federation_delegate",
        description="Name one thing that can go wrong when two programs write to one file.",
        task_type="analyze",
        role="developer",
        task_id=f"write-race-{stage.run}",
        conversation_id=CONVERSATION,
    )
    said(ADA, "federation_delegate", shown(given, "slug", "executor", "node", "state"))
    read = await stage.call(ADA, "federation_task_result", task_id=given["slug"], conversation_id=CONVERSATION, wait_s=60)
    said(ADA, "federation_task_result", f"{shown(read, 'state', 'done_by')}: {short(str((read['result'] or {}).get('text')))}")
    execution_id = given["execution_id"]
    workers = [row.worker for row in stage.sql("select distinct worker from execution_deliveries where execution_id = %s", execution_id)]
    check([worker.partition("@")[0] for worker in workers] == [DEVELOPER_NODE], f"only {DEVELOPER_NODE}'s worker had it: {', '.join(workers)}")
    row = stage.sql(
        """
        select e.node, r.state, r.details::jsonb ->> 'worker' as worker
        from executions e join celery_results r on r.task_id = e.id::text where e.id = %s
        """,
        execution_id,
    )[0]
    check(
        (row.node, row.state) == (DEVELOPER_NODE, "SUCCESS"),
        f"it was sent to the queue of {row.node}, and Celery's result says {row.state} on {row.worker}",
    )
    status = stage.one("select status from agent_tasks where id = %s", given["task_id"])
    check(status == "completed", "the task is completed in the database")


async def infer(stage: Stage) -> None:
    """Ask a language model a question; the run is recorded with the digest of its weights."""
    heading(6, "Ask a real local language model through the queue")
    answer = await stage.call(
        ADA, "federation_infer", prompt="What is the capital of France? Answer in one short sentence.", max_tokens=32, wait_s=90
    )
    said(ADA, "federation_infer", f"«{short(answer['text'])}»")
    said(ADA, "", shown(answer, "model", "node", "prompt_tokens", "completion_tokens", "seconds"))
    check("Paris" in answer["text"], "the answer names Paris")
    run = stage.sql("select model, model_digest, actor, completion from model_runs where execution_id = %s", answer["execution_id"])[0]
    check((run.actor, run.completion) == (ADA, answer["text"]), f"the run is recorded under the name of {ADA}")
    check(len(run.model_digest) == 64, f"with the digest of the weights, {run.model_digest[:12]}…")
