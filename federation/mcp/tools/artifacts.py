"""Tools to share files with the members of a conversation, and to see and read what they share."""

import base64
import codecs
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from federation.errors import InvalidInput
from federation.mcp.door import Call
from federation.mcp.tools.arguments import NUMBER, name
from federation.services import artifacts
from federation.services.artifacts import LONGEST_NAME, MEDIA_TYPE, ArtifactView, Offered
from federation.store.models.artifacts import Kind

# Over HTTP no call may have more than 4 MiB.
LONGEST_CONTENT = 4_000_000
DEFAULT_PART, LARGEST_PART = 65_536, 2**20
LISTED = 100


class Encoding(StrEnum):
    """How a content stands in a call or an answer."""

    TEXT = "text"
    BASE64 = "base64"


@dataclass(frozen=True, slots=True)
class Got:
    """An artifact and a part of what is in it; or the artifacts of a conversation."""

    artifact: Annotated[ArtifactView | None, Field(description="Null without a name.")]
    content: Annotated[str | None, Field(description="From `offset` on.")]
    encoding: Annotated[Encoding | None, Field(description="Of this part: where bytes are no text, base64.")]
    next_offset: Annotated[int | None, Field(description="Where the next part begins; null: this is the end.")]
    bundle: Annotated[Mapping[Kind, Sequence[ArtifactView]] | None, Field(description="Without a name: by kind, each in its latest version.")]
    after: Annotated[str | None, Field(description="There are more: pass it as `after`.")]


Where = Annotated[str, name("A conversation of yours; its members see it, and nobody else.", examples=["project-123"])]


async def federation_artifact_put(
    call: Call,
    conversation_id: Where,
    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=LONGEST_NAME,
            description="What it is called there, as a path or a title.",
            examples=["design/login.md", "Review 2"],
        ),
    ],
    content: Annotated[str, Field(max_length=LONGEST_CONTENT, description="What is in it.", examples=["def login(): ..."])],
    *,
    encoding: Annotated[Encoding, Field(description="How `content` stands here: as text, or its bytes in base64.")] = Encoding.TEXT,
    kind: Annotated[Kind, Field(description="Which part of the bundle it is.")] = Kind.OTHER,
    media_type: Annotated[
        str | None, Field(pattern=f"^{MEDIA_TYPE}$", description="Omitted: by the name's ending.", examples=["text/markdown"])
    ] = None,
    task_id: Annotated[str | None, name("The task of this conversation that it came of.", examples=["memory-profile"])] = None,
    expected_version: Annotated[
        int | None,
        Field(ge=0, lt=2**31, description="The version that you read, 0 for none: if there is another by now, nothing is put. Omitted: never mind."),
        NUMBER,
    ] = None,
) -> ArtifactView:
    """Share a file with the members of a conversation, for good: the same name again is its next version, the same content again changes nothing.

    Answers with the SHA-256 of what is stored. What is larger than 3 MB: `federation artifact put` at the command line.
    """
    offered = Offered(conversation_id=conversation_id, name=name, kind=kind, media_type=media_type, task=task_id, expected_version=expected_version)
    given = content.encode() if encoding is Encoding.TEXT else _bytes(content)
    await call.transact(lambda session: artifacts.admit(session, offered, size=len(given)))
    stored = await call.with_files(lambda contents: contents.put(io.BytesIO(given), len(given)))
    return await call.transact(lambda session: artifacts.record(session, offered, stored))


async def federation_artifact_get(
    call: Call,
    conversation_id: Where,
    name: Annotated[
        str | None, Field(min_length=1, max_length=LONGEST_NAME, description="Which one to read; omitted: list all.", examples=["design/login.md"])
    ] = None,
    *,
    version: Annotated[int | None, Field(ge=1, lt=2**31, description="Omitted: the latest."), NUMBER] = None,
    offset: Annotated[int, Field(ge=0, lt=2**63, description="Where to begin, in bytes."), NUMBER] = 0,
    length: Annotated[int, Field(ge=1024, le=LARGEST_PART, description="At most so many bytes."), NUMBER] = DEFAULT_PART,
    after: Annotated[str | None, Field(max_length=LONGEST_NAME, description="Of the list: go on behind this name.")] = None,
) -> Got:
    """Read a file that is shared in a conversation, or list them as a bundle of design, code, review, tests and other.

    A long one comes in parts: go on with `next_offset` and the same version. It was checked against its `sha256`, which is of the whole.
    """
    if name is None:
        if version is not None:
            raise InvalidInput("version", version, "a name beside it")
        listed, more = await call.transact(lambda session: artifacts.page(session, conversation_id, after=after or "", limit=LISTED))
        return Got(None, None, None, None, artifacts.bundle(listed), listed[-1].name if more else None)
    called = name
    found = await call.transact(lambda session: artifacts.find(session, conversation_id, called, version))
    if offset > found.size:
        raise InvalidInput("offset", offset, f"at most {found.size}, the bytes that it has")
    part = await call.with_files(lambda contents: contents.part(found.sha256, offset, length))
    content, encoding, used = _shown(part, ends=offset + len(part) >= found.size)
    end = offset + used
    return Got(found, content, encoding, end if end < found.size else None, None, None)


def _bytes(content: str) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except ValueError as error:
        raise InvalidInput("content", content, f"base64, as encoding says ({error})") from error


def _shown(part: bytes, *, ends: bool) -> tuple[str, Encoding, int]:
    """Return a part as text, as far as whole characters go, or else in base64; and how many of its bytes that is."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text = decoder.decode(part, final=ends)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        return base64.b64encode(part).decode(), Encoding.BASE64, len(part)
    left_over, _ = decoder.getstate()
    return text, Encoding.TEXT, len(part) - len(left_over)
