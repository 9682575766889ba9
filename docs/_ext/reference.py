"""Reference tables as Markdown, made from the program itself, so that they cannot drift; knows no Sphinx and writes no file."""

import ast
import asyncio
import dataclasses
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import click
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from federation import charter
from federation.broker import options as broker_options
from federation.cli import main as cli
from federation.mcp.catalogue import TOOLS
from federation.placement.model_server import ModelServer
from federation.placement.node_file import Gpus, NodeFile
from federation.placement.requirements import Requirements
from federation.results import options as results_options
from federation.results.tables import metadata as results_metadata
from federation.services import parts
from federation.settings import PREFIX, Settings
from federation.store.models.base import Base
from federation.store.payloads import catalogue

PACKAGE = Path(cli.__file__).parents[1]

# Defaults that depend on who runs the program.
COMPUTED = {
    "data_dir": "`/var/lib/federation` as root, else `~/.local/share/federation`",
    "cache_dir": "`/var/cache/federation` as root, else `~/.cache/federation`",
}


def settings() -> str:
    """Return the table of all settings."""
    rows = [
        (f"`{_variable(name, field)}`", _type(field.annotation), _default(name, field), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return table(("variable", "type", "default", "what it is"), rows)


def _variable(name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    return str(alias.choices[0]) if alias is not None and hasattr(alias, "choices") else PREFIX + name.upper()


def _default(name: str, field: FieldInfo) -> str:
    if name in COMPUTED:
        return COMPUTED[name]
    value = field.get_default(call_default_factory=True)
    if field.is_required():
        return "required"
    return "unset" if value is None else f"`{value}`" if not isinstance(value, bool) else f"`{str(value).lower()}`"


def _type(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        return _type(get_args(annotation)[0])
    if get_origin(annotation) is not None and type(None) in get_args(annotation):
        return " or ".join(_type(part) for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) in {list, tuple}:
        return f"list of {_type(get_args(annotation)[0])}"
    if get_args(annotation):
        return ", ".join(f"`{part}`" for part in get_args(annotation))
    known = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path", SecretStr: "secret"}
    return known.get(annotation, getattr(annotation, "__name__", str(annotation)))


def node_fields() -> str:
    """Return the tables of a node's file, of its cards and of its model servers."""
    cards = f"The table `[gpus]`, for equal cards:\n\n{_fields(Gpus)}"
    servers = f"A table `[[servers]]` for each model server, in the order in which they are asked:\n\n{_fields(ModelServer)}"
    return "\n\n".join((_fields(NodeFile, leave_out={"name", "gpus", "servers"}), cards, servers))


def requirements() -> str:
    """Return the table of what an execution may ask of a node."""
    return _fields(Requirements)


def _fields(model: type[BaseModel], *, leave_out: Iterable[str] = ()) -> str:
    rows = []
    for name, field in model.model_fields.items():
        if name not in leave_out:
            default = "required" if field.is_required() else f"`{_plain(field.default)}`"
            limits = ", ".join(filter(None, (_limit(rule) for rule in field.metadata)))
            rows.append((f"`{name}`", _type(field.annotation), default, limits, field.description or ""))
    if any(row[-1] for row in rows):
        return table(("field", "type", "default", "limits", "what it is"), rows)
    return table(("field", "type", "default", "limits"), [row[:-1] for row in rows])


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return "unset" if value is None else "[]" if value == () else value


def _limit(rule: Any) -> str:
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than", "pattern": "matches"}
    return ", ".join(f"{word} `{getattr(rule, name)}`" for name, word in words.items() if getattr(rule, name, None) is not None)


def tools() -> str:
    """Return one section for each MCP tool, from what a client is told of it."""
    return "\n\n".join(asyncio.run(_tools()))


async def _tools() -> list[str]:
    from fastmcp.tools import Tool  # noqa: PLC0415 - slow to import, and only this page needs it

    from federation.mcp.answers import offered  # noqa: PLC0415

    sections = []
    for function, title, hints in TOOLS:
        # No door is opened: only the signature is looked at.
        tool = Tool.from_function(offered(function), title=title, annotations=hints)
        definitions = tool.parameters.get("$defs", {})
        required = set(tool.parameters.get("required", []))
        rows = [
            (
                f"`{name}`",
                _schema(schema, definitions),
                "required" if name in required else _unset(schema.get("default")),
                schema.get("description", ""),
            )
            for name, schema in tool.parameters["properties"].items()
        ]
        kind = (
            "Reads only."
            if hints.read_only_hint
            else "May be repeated without harm."
            if hints.idempotent_hint
            else "Adds something with each new call."
        )
        answer = ", ".join(f"`{name}`" for name in (tool.output_schema or {}).get("properties", {}))
        parts = [
            f"## `{tool.name}`",
            tool.description or "",
            table(("argument", "type", "default", "what it is"), rows) if rows else "No arguments.",
        ]
        sections.append("\n\n".join([*parts, f"Answers with {answer}. {kind}"]))
    return sections


def _unset(value: Any) -> str:
    return "unset" if value is None else f"`{value}`"


def _schema(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _schema(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value if isinstance(value, str) else json.dumps(value)}`" for value in schema.get("enum") or [schema["const"]])
    if "anyOf" in schema:
        return " or ".join(_schema(part, definitions) for part in schema["anyOf"] if part.get("type") != "null")
    if schema.get("type") == "array":
        return f"list of {_schema(schema['items'], definitions)}"
    named = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "object": "object"}
    named |= {"uuid": "UUID", "date-time": "moment", "null": "null"}
    return named.get(str(schema.get("format", schema.get("type"))), "anything")


def rights() -> str:
    """Return the table of what the charter lets a role do, and which roles it lets."""
    rules, _ = charter.read(PACKAGE.parent / "charter.toml")
    rows = [
        (f"`{right}`", meaning, rules.principle(principle).rstrip(":") + ".", ", ".join(rules.who_may(right)) or "none")
        for right, (principle, meaning) in charter.MEANING.items()
    ]
    return table(("right", "lets one", "principle", "roles"), rows)


def services() -> str:
    """Return the table of the services of the program itself."""
    return table(("service", "does"), [(f"`{name}`", does) for name, does in parts.SERVICES.items()])


def transport_options() -> str:
    """Return the table of the transport's options."""
    return _dataclass(broker_options.Options)


def _dataclass(kind: type[Any]) -> str:
    told = dict(_described(inspect.getdoc(kind) or ""))
    rows = [(f"`{field.name}`", f"`{field.default}`", told[field.name]) for field in dataclasses.fields(kind)]
    return table(("option", "default", "what it does"), rows)


def _described(documentation: str) -> Iterator[tuple[str, str]]:
    for line in documentation.splitlines():
        names, colon, meaning = line.partition(": ")
        if colon and re.fullmatch(r"\w+(, \w+)*", names):
            yield from ((name, meaning) for name in names.split(", "))


def result_options() -> str:
    """Return the table of the parameters in the result backend's URL."""
    meanings = {
        "schema": "schema of the three tables",
        "channel": "channel of NOTIFY",
        "recheck": "seconds between two looks for a result whose notification was lost",
        "connections": "most connections of one process, its listener not counted",
    }
    defaults = {field.name.removesuffix("_s"): field.default for field in dataclasses.fields(results_options.Options)}
    rows = [(f"`{name}`", f"`{defaults[name]}`" if defaults[name] is not None else "unset", meaning) for name, meaning in meanings.items()]
    return table(("parameter", "default", "what it is"), rows)


def commands() -> str:
    """Return one section for each command, from its own help."""
    context = click.Context(cli.app, info_name="federation")
    sections = []
    for entry in cli.COMMANDS:
        if not entry.hidden:
            _, command, _ = cli.app.resolve_command(context, [entry.name])
            sections.extend(_command(command, f"federation {entry.name}", context))
    return "\n\n".join(sections)


def _command(command: Any, path: str, context: Any) -> Iterator[str]:
    children = getattr(command, "commands", None)
    if children:
        for name, child in children.items():
            yield from _command(child, f"{path} {name}", context)
        return
    about = inspect.cleandoc(command.help or "").replace("\f", "")
    rows = [_parameter(parameter) for parameter in command.params if parameter.name != "help" and not getattr(parameter, "hidden", False)]
    yield "\n\n".join([f"## `{path}`", about, *([table(("argument or option", "default", "what it is"), rows)] if rows else [])])


def _parameter(parameter: Any) -> tuple[str, str, str]:
    name = " ".join(f"`{option}`" for option in parameter.opts) if parameter.param_type_name == "option" else f"`{parameter.name.upper()}`"
    kind = parameter.type_descriptor.annotation
    about = getattr(parameter, "help", None) or ""
    if isinstance(kind, type) and issubclass(kind, Enum):
        about += " One of " + ", ".join(f"`{choice.value}`" for choice in kind) + "."
    default = parameter.default
    given = (
        "required"
        if parameter.required
        else "off"
        if default is False
        else f"`{getattr(default, 'value', default)}`"
        if default is not None
        else "unset"
    )
    return name, given, about


def events() -> str:
    """Return the table of event types: where the program appends them, and the fields and the schema of their payloads."""
    found: dict[str, list[tuple[str, str]]] = {}
    for type_, stream, module in _events():
        found.setdefault(type_, []).append((stream, module))
    rows = []
    for type_, places in sorted(found.items()):
        streams = dict.fromkeys(f"`{stream}`" for stream, _ in places if stream)
        modules = dict.fromkeys(f"`{module}`" for _, module in places)
        link = f"{{download}}`{type_} <{catalogue.file_name(type_).relative_to('reference')}>`"
        rows.append((link, str(catalogue.version(type_)), " or ".join(streams), _payload(type_), ", ".join(modules)))
    return table(("type", "version", "stream", "payload, beside `version`", "appended by"), rows)


def _payload(type_: str) -> str:
    told = catalogue.schema(type_)
    fields = [
        f"`{name}`: {_schema(schema, told.get('$defs', {}))}{_maybe(schema)}{'' if name in told['required'] else ', may be missing'}"
        for name, schema in told["properties"].items()
        if name != "version"
    ]
    return "; ".join(fields) or "nothing"


def _maybe(schema: dict[str, Any]) -> str:
    return " or null" if any(part.get("type") == "null" for part in schema.get("anyOf", ())) else ""


def event_types() -> set[str]:
    """Return the types of all events that the program appends."""
    return {type_ for type_, *_ in _events()}


def _events() -> Iterator[tuple[str, str, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if re.search("event_log|task_events", text := path.read_text()):
            module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
            for function in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)):
                local = _assigned(function)
                for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
                    yield from _appended(call, local, module)


def _assigned(function: ast.FunctionDef) -> dict[str, ast.expr]:
    """Return what a function assigns to plain names, so that a name can be followed."""
    return {
        target.id: node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _appended(call: ast.Call, local: Mapping[str, ast.expr], module: str) -> Iterator[tuple[str, str, str]]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id if isinstance(call.func, ast.Name) else ""
    if name == "completed" and len(call.args) == 2:
        # Written by the statement that it tells of.
        yield from ((type_, stream, module) for type_ in _templates(call.args[0], local) for stream in _templates(call.args[1], local))
    if name != "append" or len(call.args) < 3:
        return
    of_task = isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "task_events"
    streams = ["task:{task.id}"] if of_task else _templates(call.args[2], local)
    for type_ in _templates(call.args[1], local):
        yield type_, " or ".join(streams), module


def _templates(node: ast.expr, local: Mapping[str, ast.expr]) -> list[str]:
    """Return the texts that an expression may have, with what varies in braces."""
    match node:
        case ast.IfExp():
            return [*_templates(node.body, local), *_templates(node.orelse, local)]
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr():
            return ["".join(part.value if isinstance(part, ast.Constant) else "{" + ast.unparse(part.value) + "}" for part in node.values)]  # type: ignore[attr-defined]
        case ast.Name(id=name) if name in local:
            return _templates(local[name], local)
    return []


def tables() -> str:
    """Return the list of tables, each with what it holds."""
    told = {mapper.local_table.name: inspect.getdoc(mapper.class_) or "" for mapper in Base.registry.mappers}
    rows = [(f"`{table.name}`", told.get(table.name, ""), _columns(table)) for table in Base.metadata.sorted_tables]
    rows += [(f"`{table.name}`", "Of the result backend.", _columns(table)) for table in results_metadata.sorted_tables]
    return table(("table", "what a row is", "columns"), sorted(rows))


def _columns(table: Any) -> str:
    return ", ".join(f"`{column.name}`" for column in table.columns)


def exit_codes() -> str:
    """Return the exit codes as the command line's own documentation has them."""
    about = (cli.__doc__ or "").partition("Exit codes: ")[2].replace("\n", " ")
    rows = [(f"`{code}`", meaning.rstrip(". ")) for code, meaning in re.findall(r"(\d+) ([^·]+)", about)]
    return table(("code", "meaning"), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


SECTIONS: dict[str, Callable[[], str]] = {
    "settings": settings,
    "tools": tools,
    "rights": rights,
    "node-fields": node_fields,
    "requirements": requirements,
    "transport-options": transport_options,
    "result-options": result_options,
    "commands": commands,
    "exit-codes": exit_codes,
    "events": events,
    "tables": tables,
    "services": services,
}
