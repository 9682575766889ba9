"""The documentation names what exists, leaves out nothing that it lists, and its links lead somewhere."""

import ast
import asyncio
import importlib.util
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest
from fastmcp.tools import Tool

from federation.charter import Right
from federation.cli import main as cli
from federation.local import home
from federation.mcp.answers import offered
from federation.mcp.catalogue import TOOLS
from federation.placement.model_server import ModelServer
from federation.placement.node_file import Gpus, NodeFile
from federation.settings import Settings
from federation.store.models.base import Base
from federation.store.payloads.catalogue import PAYLOADS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
ROLES = {"federation_owner", "federation_app", "federation_service", "federation_auditor"}
SPANS = re.compile(r"`([^`\n]+)`")


def names(path: Path) -> str:
    return str(path.relative_to(ROOT))


def section(name: str) -> str:
    return reference().SECTIONS[name]()


def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "_ext" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["reference"] = module
    spec.loader.exec_module(module)
    return module


def schemas() -> dict[str, dict]:
    async def offer() -> dict[str, dict]:
        # No door is opened: only the signatures are looked at.
        return {tool.name: tool.parameters for tool in (Tool.from_function(offered(function)) for function, _, _ in TOOLS)}

    return asyncio.run(offer())


def code(text: str) -> Iterator[str]:
    """Lines of code: fenced, indented in the README, and spans that begin like a command."""
    fenced = re.findall(r"^ *```(?:console|bash|sh)?\n(.*?)^ *```", text, re.S | re.M)
    lines = [line for block in fenced for line in block.splitlines()]
    lines += [line for line in text.splitlines() if re.match(r" {4}\S", line)]
    lines += SPANS.findall(re.sub(r"^ *```.*?^ *```", "", text, flags=re.S | re.M))
    for line in lines:
        yield line.strip().removeprefix("$ ").partition("  #")[0]


def test_every_setting_is_in_the_reference_with_a_description() -> None:
    rows = [row.split(" | ") for row in section("settings").splitlines()[2:]]
    assert len(rows) == len(Settings.model_fields)
    assert all(row[3].strip(" |") for row in rows)
    assert "SecretStr" not in section("settings")


def test_every_tool_of_the_catalogue_is_in_the_reference_with_each_argument() -> None:
    text = section("tools")
    for name, schema in schemas().items():
        part = text[text.index(f"## `{name}`\n") :].split("\n## ")[0]
        for argument, told in schema["properties"].items():
            assert f"| `{argument}` |" in part
            assert told.get("description"), f"{name}: {argument} is not described"


def test_every_field_of_a_node_is_in_the_reference() -> None:
    text = section("node-fields")
    for field in {*NodeFile.model_fields, *Gpus.model_fields, *ModelServer.model_fields} - {"gpus", "servers"}:
        assert f"`{field}`" in text


def test_every_right_of_the_charter_is_in_the_reference() -> None:
    assert [row.split(" | ")[0].strip("| `") for row in section("rights").splitlines()[2:]] == list(Right)


def test_every_command_and_option_is_in_the_reference() -> None:
    text = section("commands")
    for path, command in commands().items():
        if not hasattr(command, "commands") and not hidden(path):
            part = text[text.index(f"## `federation {path}`") :].split("\n## ")[0]
            assert all(
                f"`{option}`" in part
                for parameter in command.params
                for option in parameter.opts
                if option.startswith("-") and parameter.name != "help" and not parameter.hidden
            )


def test_every_table_and_every_event_is_in_the_reference() -> None:
    assert all(f"| `{name}` |" in section("tables") for name in Base.metadata.tables)
    types = reference().event_types()
    assert {"message.sent", "task.created", "claim.acquired", "execution.quarantined", "node.announced"} <= types
    assert all(re.fullmatch(r"[a-z]+\.[a-z_]+", type_) for type_ in types)
    assert types == PAYLOADS.keys()
    assert "…" not in section("events")


@pytest.mark.parametrize(
    "name",
    [
        "settings",
        "tools",
        "rights",
        "commands",
        "exit-codes",
        "node-fields",
        "requirements",
        "transport-options",
        "result-options",
        "events",
        "tables",
        "services",
    ],
)
def test_every_made_section_stands_on_a_page(name: str) -> None:
    assert any(f"```{{from-code}} {name}\n" in page.read_text() for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.S | re.M)
    for target in [*re.findall(r"\]\(([^)]+)\)", text), *re.findall(r'src="([^"]+)"', text)]:
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(), re.M)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, target


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_settings_and_tools_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    known = {f"FEDERATION_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"\bFEDERATION_[A-Z_]+\b", text)) <= known
    tools = {function.__name__ for function, _, _ in TOOLS}
    # Each node that is let in has roles of its own.
    assert set(re.findall(r"\bfederation_(?!node(?:service)?_)[a-z_]+\b", text)) <= tools | ROLES


def commands() -> dict[str, click.Command]:
    context = click.Context(cli.app, info_name="federation")
    found: dict[str, click.Command] = {}
    for entry in cli.COMMANDS:
        _, command, _ = cli.app.resolve_command(context, [entry.name])
        found |= within(entry.name, command)
    return found


def within(path: str, command: click.Command) -> dict[str, click.Command]:
    """Return a command and all below it by their paths."""
    found = {path: command}
    for name, child in getattr(command, "commands", {}).items():
        found |= within(f"{path} {name}", child)
    return found


def hidden(path: str) -> bool:
    return any(entry.hidden for entry in cli.COMMANDS if entry.name == path)


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_commands_that_a_page_shows_exist_with_their_options(page: Path) -> None:
    known = commands()
    # What a shell would take apart: pipes, lists, what is in brackets, and where it goes.
    lines = [part.strip() for line in code(page.read_text()) for part in re.split(r"\||&&|\$?\(|\)|[<>]", line.replace("<node>", "node"))]
    for line in lines:
        if not line.startswith("federation ") or "…/" in line:
            continue
        words = shlex.split(line.replace("…", "X"))[1:]
        if words in (["--help"], ["--version"]):
            continue
        path = next((path for many in (3, 2) if (path := " ".join(words[:many])) in known), words[0])
        assert path in known, line
        given = {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"}
        assert given <= {option for parameter in known[path].params for option in parameter.opts}, line


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_make_targets_that_a_page_shows_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    shown = {line.split()[1] for line in code(page.read_text()) if re.match(r"make [a-z]", line)}
    assert shown <= targets


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_tests_that_a_page_names_exist(page: Path) -> None:
    for file, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.read_text()):
        assert re.search(rf"def {name}\(" if name else "", (ROOT / file).read_text()), f"{file}::{name}"


def test_threat_model_has_a_test_for_each_row() -> None:
    rows = re.split(r"^### ASI", (ROOT / "docs" / "explanation" / "threat-model.md").read_text(), flags=re.M)[1:]
    assert [row[:2] for row in rows] == [f"{number:02}" for number in range(1, 11)]
    assert all(re.search(r"^- `tests/", row, re.M) for row in rows)


def test_calls_of_the_tutorial_fit_the_tools() -> None:
    known = schemas()
    tree = ast.parse((ROOT / "docs" / "examples" / "first_conversation.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "call_tool"]
    assert len(calls) >= 8
    for call in calls:
        name, arguments = call.args
        assert isinstance(name, ast.Constant)
        assert isinstance(arguments, ast.Dict)
        given = {key.value for key in arguments.keys if isinstance(key, ast.Constant)}
        schema = known[str(name.value)]
        assert set(schema.get("required", [])) <= given <= set(schema["properties"]), ast.unparse(call)


def test_exit_codes_of_the_readme_are_those_of_the_program() -> None:
    codes = set(re.findall(r"^\| (\d+) \|", (ROOT / "README.md").read_text(), re.M))
    assert codes == set(re.findall(r"^\| `(\d+)` \|", section("exit-codes"), re.M))


def test_everything_that_the_data_directory_holds_is_described() -> None:
    text = (ROOT / "docs" / "reference" / "settings.md").read_text()
    assert all(f"`{name}`" in text or f"`{name}/`" in text for name in home._OURS)


def test_readme_shows_the_extras_and_nodes_that_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    page = (ROOT / "docs" / "how-to" / "add-a-node.md").read_text()
    assert all(name in extras for name in ("embedding", "llm"))
    assert "`embedding`" in page
    assert "`llm`" in page
