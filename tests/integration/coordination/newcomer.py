"""An agent that knows the list of tools and nothing else: what a tool wants and nobody has said, it looks for in what other tools say they answer.

It chooses the tool that it is to come to by its title, as a person would who reads the list, and plans backwards from there.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

_MOST_STEPS = 4


class Newcomer:
    """One agent at the front door, and what it has been told so far, by the names that it was told it under."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._tools: dict[str, Any] = {}
        self.told: dict[str, Any] = {}
        self.steps: list[str] = []

    async def read_the_list(self) -> None:
        """Read the list of tools."""
        self._tools = {tool.title: tool for tool in await self._client.list_tools()}

    async def come_to(self, title: str, depth: int = 0, **given: Any) -> dict[str, Any]:
        """Call a tool; find out before what it wants and nobody has said. Raises LookupError where no tool says that it answers that."""
        tool = self._tools[title]
        properties, required = tool.input_schema["properties"], tool.input_schema.get("required", [])
        assert given.keys() <= properties.keys(), f"{title} takes no {sorted(given.keys() - properties.keys())}"
        for name in required:
            if name not in given and name not in self.told:
                await self._find_out(name, for_tool=title, depth=depth + 1)
        known = {name: self.told[name] for name in required if name in self.told}
        answer: dict[str, Any] = (await self._client.call_tool(tool.name, known | given)).structured_content
        self.steps.append(tool.name)
        self.told |= {name: value for name, value in _named(answer) if value is not None}
        return answer

    async def _find_out(self, name: str, *, for_tool: str, depth: int) -> None:
        """Call tools that answer it, those first that want least else, until one does."""
        assert depth <= _MOST_STEPS, f"{for_tool} wants {name}, and the way to it has no end"
        wanted = set(self._tools[for_tool].input_schema["properties"])
        able = [
            tool
            for title, tool in self._tools.items()
            # Nothing is made anew in order to learn its name.
            if title != for_tool and tool.annotations.idempotent_hint and name in json.dumps(tool.output_schema)
        ]
        for tool in sorted(able, key=lambda tool: self._strangeness(tool, wanted, name)):
            if self._missing(tool):
                continue
            await self.come_to(tool.title, depth)
            if name in self.told:
                return
        raise LookupError(f"{for_tool} wants {name}, and no tool tells it")

    def _missing(self, tool: Any) -> list[str]:
        return [name for name in tool.input_schema.get("required", []) if name not in self.told]

    def _strangeness(self, tool: Any, wanted: set[str], name: str) -> tuple[bool, int, bool]:
        """What has the name among its own answers comes before what only speaks of it, and what takes the same arguments before what does not."""
        takes = set(tool.input_schema["properties"])
        return name not in tool.output_schema.get("properties", {}), -len(takes & wanted), not tool.annotations.read_only_hint


def _named(answer: Any) -> Iterator[tuple[str, Any]]:
    """Yield all that an answer names, the outermost last."""
    if isinstance(answer, Mapping):
        for value in answer.values():
            yield from _named(value)
        yield from answer.items()
    elif isinstance(answer, list):
        for value in answer:
            yield from _named(value)
