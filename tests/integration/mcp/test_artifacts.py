"""Files that agents share through the tools: what was put comes back bit by bit, in parts where it is long, or is refused."""

import asyncio
import base64
import hashlib
import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from fastmcp.exceptions import ToolError

from federation.mcp.door import FILE_THREADS
from federation.mcp.tools import artifacts
from federation.services import messages

pytestmark = pytest.mark.anyio

ROOM = {"conversation_id": "project-123"}
TEXTS = {"plain": "Plan: ship it.\n", "nothing": "", "of all scripts": "Grüße, 世界 👩‍💻\r\n\t\x1b[31m" * 500}
BYTES = {"no text": b"\xff\xfe\0\x01" * 100, "text with an end": b"one\0two", "half a character": "ü".encode()[:1], "3 MB": os.urandom(2_950_000)}


@pytest.fixture
def room(house: Any) -> Any:
    """The house, with a conversation of ada and bob."""
    with house.transactions.begin("ada") as session:
        messages.send(session, "Here", to="bob", **ROOM)
    return house


async def got(client: Any, name: str, **more: Any) -> tuple[bytes, list[str]]:
    """Return all of an artifact, part by part, and how each part was told."""
    whole, encodings, offset = b"", [], 0
    while offset is not None:
        answer = (await client.call_tool("federation_artifact_get", {**ROOM, "name": name, "offset": offset, **more})).structured_content
        part = answer["content"]
        whole += part.encode() if answer["encoding"] == "text" else base64.b64decode(part)
        encodings.append(answer["encoding"])
        assert answer["next_offset"] in {None, len(whole)}
        offset = answer["next_offset"]
    assert hashlib.sha256(whole).hexdigest() == answer["artifact"]["sha256"]
    assert len(whole) == answer["artifact"]["size"]
    return whole, encodings


@pytest.mark.parametrize("said", TEXTS.values(), ids=TEXTS)
async def test_a_text_comes_back_as_text_also_where_a_part_ends_within_a_character(room: Any, said: str) -> None:
    async with room.client("ada") as ada, room.client("bob") as bob:
        put = await ada.call_tool("federation_artifact_put", {**ROOM, "name": "a.txt", "content": said})
        assert put.structured_content["sha256"] == hashlib.sha256(said.encode()).hexdigest()
        for length in (1024, 1025, 1026, 1027, 65_536):
            whole, encodings = await got(bob, "a.txt", length=length)
            assert whole.decode() == said
            assert set(encodings) == {"text"}


@pytest.mark.parametrize("content", BYTES.values(), ids=BYTES)
async def test_bytes_come_back_as_they_were(room: Any, content: bytes) -> None:
    given = {"content": base64.b64encode(content).decode(), "encoding": "base64"}
    async with room.client("ada") as ada, room.client("bob") as bob:
        put = await ada.call_tool("federation_artifact_put", {**ROOM, "name": "a.bin", "kind": "tests", **given})
        assert put.structured_content["size"] == len(content)
        whole, encodings = await got(bob, "a.bin", length=artifacts.LARGEST_PART)
        assert whole == content
        assert "base64" in encodings


async def test_an_old_version_conflicts_and_what_is_worked_together_does_not(room: Any) -> None:
    async with room.client("ada") as ada, room.client("bob") as bob:

        async def put(client: Any, content: str, version: int, **more: Any) -> Any:
            given = {**ROOM, "name": "plan.md", "content": content, "expected_version": version}
            return await client.call_tool("federation_artifact_put", given, **more)

        await put(ada, "one", 0)
        read = (await ada.call_tool("federation_artifact_get", {**ROOM, "name": "plan.md"})).structured_content["artifact"]["version"]
        await put(bob, "one, and bob's", read)
        refused = await put(ada, "one, and ada's", read, raise_on_error=False)
        assert refused.content[0].text == (
            "plan.md is at version 2 by now, put by bob, and not at 1 as you expect: nothing was put, and no version is lost. "
            "Get version 2, work into it what you changed, and put that with the expected version 2"
        )
        assert await got(ada, "plan.md") == (b"one, and bob's", ["text"])
        assert (await put(ada, "one, and bob's, and ada's", 2)).structured_content["version"] == 3
        assert [await got(bob, "plan.md", version=version) for version in (1, 2)] == [(b"one", ["text"]), (b"one, and bob's", ["text"])]


async def test_what_is_put_twice_is_there_once_and_what_is_new_is_a_version(room: Any) -> None:
    async with room.client("ada") as ada, room.client("bob") as bob:
        first, again, second = [
            (await client.call_tool("federation_artifact_put", {**ROOM, "name": "plan.md", "content": content})).structured_content
            for client, content in ((ada, "one"), (bob, "one"), (bob, "two"))
        ]
        assert first == again
        assert (second["version"], second["created_by"]) == (2, "bob")
        assert await got(ada, "plan.md") == (b"two", ["text"])
        assert await got(ada, "plan.md", version=1) == (b"one", ["text"])
    assert len([path for path in room.door.contents.folder.rglob("*") if path.is_file()]) == 2


async def test_a_bundle_is_listed_by_kind_page_by_page(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "LISTED", 2)
    async with room.client("ada") as ada:
        for kind in ("tests", "review", "code", "design"):
            await ada.call_tool("federation_artifact_put", {**ROOM, "name": f"{kind}.md", "content": kind, "kind": kind})
        first = (await ada.call_tool("federation_artifact_get", ROOM)).structured_content
        second = (await ada.call_tool("federation_artifact_get", {**ROOM, "after": first["after"]})).structured_content
    assert list(first["bundle"]) == ["design", "code", "review", "tests", "other"]
    names = [[one["name"] for listed in page["bundle"].values() for one in listed] for page in (first, second)]
    assert (names, second["after"]) == ([["design.md", "code.md"], ["review.md", "tests.md"]], None)


async def test_an_altered_file_is_refused_with_both_digests_and_mended_by_the_same_content(room: Any) -> None:
    plan = {**ROOM, "name": "plan.md"}
    async with room.client("ada") as ada, room.client("bob") as bob:
        put = (await ada.call_tool("federation_artifact_put", {**plan, "content": "true"})).structured_content
        [file] = room.door.contents.folder.rglob(put["sha256"])
        file.write_text("fake")
        fake = hashlib.sha256(b"fake").hexdigest()
        with pytest.raises(ToolError, match=f"got a file with SHA-256 {fake}, wants SHA-256 {put['sha256']}"):
            await bob.call_tool("federation_artifact_get", plan)
        file.unlink()
        with pytest.raises(ToolError, match="got no file") as told:
            await bob.call_tool("federation_artifact_get", plan)
        assert str(room.door.contents.folder) not in str(told.value)
        assert (await bob.call_tool("federation_artifact_put", {**plan, "content": "true"})).structured_content == put
        assert await got(bob, "plan.md") == (b"true", ["text"])


async def test_what_cannot_be_put_or_got_is_refused_by_name_and_leaves_no_file(room: Any) -> None:
    async with room.client("ada") as ada, room.client("dan") as dan:
        await ada.call_tool("federation_artifact_put", {**ROOM, "name": "plan.md", "content": "true"})
        for client, tool, given, says in (
            (ada, "put", {"name": "x", "content": "not base64!", "encoding": "base64"}, "content: got 'not base64!', wants base64"),
            (ada, "put", {"name": "../x", "content": "x"}, "name: got '../x', wants 1 to 200 visible characters"),
            (ada, "put", {"name": "x", "content": "x", "media_type": "text"}, "media_type: got 'text', wants a media type"),
            (ada, "put", {"name": "x", "content": "x", "task_id": "none"}, "no task 'none'"),
            (dan, "put", {"name": "x", "content": "x"}, "no conversation 'project-123'"),
            (dan, "get", {"name": "plan.md"}, "no conversation 'project-123'"),
            (ada, "get", {"name": "plan.md", "version": 2}, "version: got 2, wants 1 to 1 of plan.md"),
            (ada, "get", {"name": "plan.md", "offset": 5}, "offset: got 5, wants at most 4"),
            (ada, "get", {"version": 1}, "version: got 1, wants a name beside it"),
        ):
            refused = await client.call_tool(f"federation_artifact_{tool}", {**ROOM, **given}, raise_on_error=False)
            assert refused.is_error
            assert re.match(re.escape(says), refused.content[0].text), refused.content[0].text
    assert len([path for path in room.door.contents.folder.rglob("*") if path.is_file()]) == 1


async def test_a_folder_whose_server_hangs_keeps_nobody_waiting_who_wants_no_file(room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    back, asked = threading.Event(), threading.Semaphore(0)

    def hang(*_: Any) -> bytes:
        asked.release()
        assert back.wait(60)
        return b"true"

    async with room.client("ada") as ada:
        await ada.call_tool("federation_artifact_put", {**ROOM, "name": "plan.md", "content": "true"})
        monkeypatch.setattr(room.door.contents, "part", hang)
        reading = [asyncio.create_task(ada.call_tool("federation_artifact_get", {**ROOM, "name": "plan.md"})) for _ in range(3 * FILE_THREADS)]
        try:
            for _ in range(FILE_THREADS):
                assert await asyncio.to_thread(asked.acquire, timeout=60)
            assert (await ada.call_tool("federation_pulse")).structured_content["rows"]
        finally:
            back.set()
        assert {(await one).structured_content["content"] for one in reading} == {"true"}


async def test_a_folder_that_cannot_be_written_is_told_and_records_nothing(room: Any) -> None:
    folder: Path = room.door.contents.folder
    folder.write_text("no folder")
    async with room.client("ada") as ada:
        with pytest.raises(ToolError, match="the folder of artifacts cannot be written; nothing was recorded: "):
            await ada.call_tool("federation_artifact_put", {**ROOM, "name": "x", "content": "x"})
        listed = (await ada.call_tool("federation_artifact_get", ROOM)).structured_content
    assert not any(listed["bundle"].values())
