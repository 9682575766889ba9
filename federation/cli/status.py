"""`federation status`: parts, nodes and addresses as they are now; changes nothing."""

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import psycopg
import typer

from federation.cli.addresses import addresses
from federation.cli.console import address_lines, console, errors, inert, parts_table, print_json, table
from federation.local import checks, state
from federation.local.home import Home
from federation.settings import Settings, settings

NOT_RUNNING = 3

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, with passwords.")]


@dataclass(frozen=True)
class NodeView:
    """A node as the table `nodes` has it; `age_s` is seconds since its last sign of life."""

    name: str
    role: str
    last_seen_at: str | None
    age_s: float | None
    alive: bool


def nodes_and_gates(config: Settings) -> tuple[list[NodeView], int, str | None]:
    """Return the nodes known to the database, how many tasks await approval, and why they cannot be told if so."""
    if config.database_service_url is None:
        return [], 0, "no database is set; run: federation up"
    query = "select name, role, last_seen_at, extract(epoch from now() - last_seen_at)::float8, left_at is not null from nodes order by name"
    try:
        with psycopg.connect(config.database_service_url.get_secret_value(), connect_timeout=3) as connection:
            rows = connection.execute(query).fetchall()
            [(awaiting,)] = connection.execute("select count(*) from agent_tasks where status = 'awaiting_approval'").fetchall()
    except psycopg.Error as error:
        return [], 0, str(error).strip().partition("\n")[0]
    return (
        [
            NodeView(name, role, seen.isoformat() if seen else None, age, alive=age is not None and age < config.node_stale_s and not left)
            for name, role, seen, age, left in rows
        ],
        awaiting,
        None,
    )


def status(as_json: AsJson = False) -> None:
    """Show parts, nodes and addresses; exit code 3 when it is not running."""
    config = settings()
    home = Home(config.data_dir)
    view = state.read(home)
    running = view is not None and view.alive
    known, awaiting, nodes_problem = nodes_and_gates(config) if running or config.database_url else ([], 0, None)
    # The supervisor cannot write its state on a full disk: then what is told here is old, and this says so.
    problem = checks.full_disk(config.data_dir) or (view.problem if view and running else None)
    if as_json:
        parts = [asdict(part) | {"alive": part.alive} for part in view.parts] if view else []
        told: dict[str, Any] = {
            "running": running,
            "phase": view.phase if view and running else "stopped",
            "pid": view.pid if view and running else None,
            **addresses(config),
            "flower_user": config.flower_user,
            "flower_password": config.flower_password.get_secret_value() if config.flower_password else None,
            "log_dir": str(home.log("any").parent),
            "failure": view.failure if view else None,
            "started_by": view.started_by if view and running else None,
            "problem": problem,
            "parts": parts,
            "nodes": [asdict(node) for node in known],
            "nodes_problem": nodes_problem,
            "awaiting_approval": awaiting,
        }
        print_json(json.dumps(told, indent=2))
    else:
        _print(view if running else None, known, nodes_problem, config)
        if awaiting:
            what = "1 task awaits" if awaiting == 1 else f"{awaiting} tasks await"
            console.print(f"{what} approval. See: federation task list --status awaiting_approval")
        if problem:
            errors.print(f"[red]{inert(problem)}[/]")
    raise typer.Exit(0 if running else NOT_RUNNING)


def _print(view: state.View | None, known: list[NodeView], nodes_problem: str | None, config: Settings) -> None:
    if view is None:
        console.print("The federation is not running. Start it with: federation up")
    else:
        console.print(f"[bold]The federation is {view.phase}[/] (pid {view.pid})")
        console.print(parts_table(view.parts))
    if known:
        rows = table("node", "role", "alive", "last sign of life")
        for node in known:
            age = "never" if node.age_s is None else f"{node.age_s:.0f} s ago"
            rows.add_row(inert(node.name), inert(node.role), "[green]yes[/]" if node.alive else "[red]no[/]", age)
        console.print(rows)
    elif nodes_problem:
        console.print(f"nodes: {inert(nodes_problem)}")
    for line in address_lines(addresses(config)):
        console.print(line)
