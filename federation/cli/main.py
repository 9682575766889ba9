"""The command `federation`: finds the command asked for and maps our errors to exit codes; imports no command before it is asked for.

Exit codes: 0 done · 1 refused, not found, a check failed · 2 wrong input or setting · 3 `status` when nothing runs ·
69 a service is not available (also: a local service cannot be had) · 130 interrupted.
"""

import errno
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from federation.errors import FederationError, InvalidInput, LocalServiceError, SettingsError, TransientError
from federation.foreign import visible
from federation.importing import importing

# A full disk, a folder of another user's: nothing of ours to look for in a traceback.
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Entry:
    """A command: its name, the function or Typer application behind it, and its line in `federation --help`."""

    name: str
    target: str
    help: str
    hidden: bool = False


COMMANDS = (
    Entry("up", "federation.cli.up:up", "Start the whole federation on this machine."),
    Entry("demo", "federation.cli.demo.command:demo", "Do the main job on real input and check each effect."),
    Entry("down", "federation.cli.down:down", "Stop it; --purge removes all that was made."),
    Entry("status", "federation.cli.status:status", "Show parts, nodes and addresses."),
    Entry("doctor", "federation.cli.doctor:doctor", "Check this machine and say what to do."),
    Entry("fetch", "federation.cli.fetch:fetch", "Fetch ActiveMQ and stunnel now, so that `up` needs no network."),
    Entry("agent", "federation.cli.agent:app", "Add agents, give tokens and keys, configure clients."),
    Entry("send", "federation.cli.send:send", "Send a message as an agent."),
    Entry("ask", "federation.cli.ask:ask", "Ask as an agent, and wait for the answer."),
    Entry("inbox", "federation.cli.inbox:inbox", "Read what was sent to an agent, or wait for it."),
    Entry("state", "federation.cli.state:state", "Tell what you are doing, as an agent."),
    Entry("pulse", "federation.cli.pulse:pulse", "Show what every agent and node is doing, or was."),
    Entry("history", "federation.cli.history:history", "Show what was said in a conversation."),
    Entry("events", "federation.cli.events:events", "Show what happened, and follow what happens."),
    Entry("schedule", "federation.cli.schedule:app", "Set when conversations are summarised."),
    Entry("task", "federation.cli.task:app", "Hand out, do, show, approve, cancel and redrive tasks."),
    Entry("phase", "federation.cli.phase:phase", "Show or move the phase of a conversation."),
    Entry("consensus", "federation.cli.consensus:app", "Ask for votes, show, export and verify them."),
    Entry("vote", "federation.cli.vote:vote", "Vote as the agent whose token you have, and sign."),
    Entry("session", "federation.cli.session:app", "Look into something together; list, show and end such."),
    Entry("index", "federation.cli.index:index", "Make a folder searchable, and follow its changes."),
    Entry("memory", "federation.cli.memory:app", "Remember, list and forget as an agent."),
    Entry("cache", "federation.cli.cache:app", "Show and drop the answers of models that are given again."),
    Entry("claim", "federation.cli.claim:app", "Claim files and other resources, list and end claims."),
    Entry("artifact", "federation.cli.artifact:app", "Put, get and list files that conversations share."),
    Entry("hook", "federation.cli.hook:app", "Keep git from committing what others have claimed."),
    Entry("signer", "federation.cli.signer:app", "List and revoke the keys that executions are signed with."),
    Entry("node", "federation.cli.node:app", "Let single nodes in, and shut them out."),
    Entry("model", "federation.cli.model:app", "List, verify, add, serve and test models."),
    Entry("tls", "federation.cli.tls:app", "Make and show the certificates of the services."),
    Entry("passwords", "federation.cli.passwords:app", "Give the program's own parts new passwords."),
    Entry("audit", "federation.cli.audit:app", "Verify, export and replay the event log."),
    Entry("serve", "federation.cli.serve:serve", "Serve MCP over HTTP: the front door."),
    Entry("stomp", "federation.cli.stomp:stomp", "Serve STOMP to agents: their door to ActiveMQ."),
    Entry("mcp", "federation.cli.mcp:mcp", "Serve MCP over stdio to the client that starts it."),
    Entry("supervise", "federation.cli.up:supervise", "Run what `up --detach` leaves behind.", hidden=True),
)


def _load(entry: Entry) -> Any:
    module, _, attribute = entry.target.partition(":")
    with importing():
        found = getattr(importlib.import_module(module), attribute)
    if isinstance(found, typer.Typer):
        return typer.main.get_group(found)
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(entry.name)(found)
    return typer.main.get_command(alone)


class LazyCommands(TyperGroup):
    """Lists commands from the table and imports one only when it is invoked."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [entry.name for entry in COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = next((entry for entry in COMMANDS if entry.name == cmd_name), None)
        return entry and TyperCommand(entry.name, help=entry.help, hidden=entry.hidden, rich_markup_mode=None)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        self.commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}  # for «did you mean»
        name, stub, rest = super().resolve_command(ctx, args)
        entry = next((entry for entry in COMMANDS if entry.name == name), None)
        return name, _load(entry) if entry else stub, rest


def exit_code(error: FederationError) -> int:
    """Return the exit code for an error of ours."""
    if isinstance(error, InvalidInput | SettingsError):
        return 2
    return 69 if isinstance(error, TransientError | LocalServiceError) else 1


def _print_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"federation {version('federation')}\n")
        raise typer.Exit


_root = typer.Typer(
    name="federation",
    cls=LazyCommands,
    help="One coordination layer for AI agents and people on several machines.",
    epilog="`federation up` and `federation doctor` are where to begin. Exit codes: 0 done, 1 refused, not found or a check failed, 2 wrong input or "
    "setting, 3 `status` when nothing runs, 69 a service is not available, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@_root.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)] = False,
) -> None: ...


app = typer.main.get_group(_root)


def _refuse_bytes(arguments: Sequence[str]) -> None:
    """Pass if the arguments are text: bytes that are none could be stored nowhere. Raises InvalidInput."""
    for number, argument in enumerate(arguments, start=1):
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            got = f"bytes that are no text, from place {error.start} on"
            raise InvalidInput(f"argument {number}", got, "UTF-8; a file with such a name is reached under another one") from error


def main() -> None:
    """Run the command line and exit."""
    try:
        _refuse_bytes(sys.argv[1:])
        app.main(prog_name="federation")
    except FederationError as error:
        # It may name what an agent named.
        sys.stderr.write(f"federation: {visible(str(error))}\n")
        sys.exit(exit_code(error))
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            raise
        sys.stderr.write(f"federation: {error}\n")
        sys.exit(69)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
