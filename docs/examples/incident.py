"""Three agents look into the incident INC-1234 of the coordination patterns, decide on a rollback, and do it: `incident.py URL`.

The tokens come from the environment, as DEPLOY_VALIDATOR, INCIDENT_LEAD and ROLLBACK_ADVISOR: a command line can be read by everybody on the machine.
"""

# ruff: noqa: T201 - it shows what it gets
import asyncio
import os
import sys
from typing import Any

from fastmcp import Client

VALIDATOR, LEAD, ADVISOR = "ops/deploy-validator", "security/incident-response-lead", "ops/rollback-advisor"


async def main(url: str, tokens: dict[str, str]) -> None:
    async with Client(url, auth=tokens[VALIDATOR]) as validator, Client(url, auth=tokens[LEAD]) as lead, Client(url, auth=tokens[ADVISOR]) as advisor:

        async def call(agent: Client[Any], tool: str, **given: Any) -> Any:
            return (await agent.call_tool(tool, {"session_id": "INC-1234", **given})).structured_content

        # begin: the lead says what it is about, and lets all three decide on actions
        await call(
            lead,
            "swarm_join_session",
            context={"task": "investigate incident INC-1234"},
            focus="Analyze error patterns and logs",
            voters=[VALIDATOR, LEAD, ADVISOR],
        )
        await call(validator, "swarm_join_session", focus="Check recent deployments and changes")
        await call(advisor, "swarm_join_session", focus="Assess rollback feasibility")

        # look: each posts what it finds, with what that rests on
        rate = {"source": "prometheus", "query": "rate(errors[5m])"}
        await call(
            validator,
            "swarm_post_finding",
            content="deployment v1.2.3 at 10:15 UTC",
            category="observation",
            evidence=[{"source": "deployments", "query": "since 10:00", "result": "v1.2.3 at 10:15"}],
        )
        await call(
            lead,
            "swarm_post_finding",
            content="error rate spike correlates with deploy",
            category="observation",
            evidence=[{**rate, "result": "0.05"}],
        )
        known = await call(advisor, "swarm_get_findings", **rate)
        print("asked before:", known["findings"][0]["evidence"][0]["result"])

        # suppose: others confirm or refute what somebody supposes
        pool = await call(lead, "swarm_post_finding", content="database connection pool exhaustion", category="hypothesis", confidence=0.7)
        leak = await call(advisor, "swarm_post_finding", content="memory leak in new feature", category="hypothesis", confidence=0.3)
        await call(
            validator,
            "swarm_post_finding",
            content="the pool is full since 10:16",
            category="conclusion",
            confidence=0.95,
            evidence=[{"source": "postgres", "query": "SELECT count(*) FROM pg_stat_activity", "result": "100 of 100"}],
            hypothesis_id=pool["finding_id"],
            validates=True,
        )
        await call(
            validator,
            "swarm_post_finding",
            content="memory is flat",
            category="conclusion",
            confidence=0.9,
            evidence=[{"source": "prometheus", "query": "container_memory_rss", "result": "flat"}],
            hypothesis_id=leak["finding_id"],
            validates=False,
        )
        for hypothesis in (await call(advisor, "swarm_get_findings"))["hypotheses"]:
            print(f"{hypothesis['description']}: {hypothesis['confidence']:.2f}, {hypothesis['state']}")

        # decide: who votes says by its hash what it has read
        action = await call(
            advisor,
            "swarm_propose_action",
            content="Roll back v1.2.3",
            type="modify",
            target="deployment/web",
            parameters={"version": "v1.2.3"},
            action_id="rollback",
        )
        for voter, vote, more in (
            (validator, "yes", {"confidence": 0.9, "reason": "Error rate 5x baseline"}),
            (advisor, "yes", {"confidence": 0.85, "reason": "Matches previous incident pattern"}),
            (lead, "abstain", {"reason": "No security implications detected"}),
        ):
            voted = await call(voter, "swarm_vote", action_id="rollback", vote=vote, options_hash=action["vote"]["options_hash"], **more)
        print({name: voted[name] for name in ("decision", "votes_for", "votes_against", "abstentions")})

        # act: one takes it, does it, and says what came of it
        taken = await call(validator, "swarm_claim_task")
        await call(validator, "swarm_complete_task", action_id=taken["action_id"], fencing_token=taken["fencing_token"], result={"version": "v1.2.2"})

        # conclude: the outcome ends the session
        await call(lead, "swarm_post_finding", content="v1.2.3 exhausted the connection pool", category="conclusion", confidence=0.95, completes=True)
        print("outcome:", (await call(advisor, "swarm_get_findings"))["outcome"]["conclusion"])
        # end


if __name__ == "__main__":
    names = {VALIDATOR: "DEPLOY_VALIDATOR", LEAD: "INCIDENT_LEAD", ADVISOR: "ROLLBACK_ADVISOR"}
    asyncio.run(main(sys.argv[1], {name: os.environ[variable] for name, variable in names.items()}))
