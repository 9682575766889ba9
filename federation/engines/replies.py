"""What a server of OpenAI's API says, as ours: parts of a stream to a completion, its errors to our errors; reads no socket."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from federation.engines.contracts import Completion, Hear
from federation.errors import ContextLengthError, EngineUnavailable, InvalidInput, ModelUnavailable

# Of vLLM: the window, and what the prompt has.
_WINDOW = re.compile(r"(?:maximum (?:context|model) length (?:is|of)) (\d+)", re.IGNORECASE)
_TOKENS = re.compile(r"(\d+) (?:in the messages|input tokens|tokens in the|prompt tokens)|length (\d+)\)|has (\d+) input tokens", re.IGNORECASE)
_BUSY, _FORBIDDEN, _UNKNOWN = 429, (401, 403), 404


def whole(text: str) -> str:
    """Return a text with NUL and halves of characters, which PostgreSQL and UTF-8 do not hold, replaced."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").replace("\0", "\ufffd")


def error_of(name: str, status: int, said: Mapping[str, Any]) -> Exception:
    """Return our error for what a server answered in place of a completion; `name` is what to call the server."""
    problem = said.get("error", said)
    problem = problem if isinstance(problem, Mapping) else {"message": str(problem)}
    text = whole(str(problem.get("message") or f"status {status}"))[:500]
    if (numbers := _over_window(problem, text)) is not None:
        return ContextLengthError(*numbers)
    if status == _BUSY:
        return EngineUnavailable(f"{name} has too much to do (429: {text}); try again")
    if status in _FORBIDDEN:
        return ModelUnavailable(f"{name} wants a key ({status}: {text}); name its file in key_file of the node's file")
    if status == _UNKNOWN:
        return ModelUnavailable(f"{name} does not have it (404: {text}); correct url and model in the node's file")
    if status < 500:
        return InvalidInput("request", text, f"what {name} takes")
    return EngineUnavailable(f"{name} failed ({status}: {text}); try again")


def _over_window(problem: Mapping[str, Any], text: str) -> tuple[int, int] | None:
    if problem.get("type") == "exceed_context_size_error":
        return int(problem["n_prompt_tokens"]), int(problem["n_ctx"])
    window, tokens = _WINDOW.search(text), _TOKENS.search(text)
    if window is None or tokens is None:
        return None
    return int(next(filter(None, tokens.groups()))), int(window[1])


@dataclass
class Reply:
    """A completion as it grows."""

    name: str
    hear: Hear
    started: float = field(default_factory=time.monotonic)
    first_part_s: float | None = None
    finish_reason: str | None = None
    usage: Mapping[str, Any] | None = None
    _parts: list[str] = field(default_factory=list)

    @property
    def has_begun(self) -> bool:
        """Whether a part of it came."""
        return self.first_part_s is not None

    def take(self, event: Mapping[str, Any]) -> None:
        """Take the next event of the stream. Raises EngineUnavailable for an error in it, and what `hear` raises."""
        if "error" in event:
            problem = event["error"]
            raise error_of(self.name, int(problem.get("code") or 500) if isinstance(problem, Mapping) else 500, event)
        self.usage = event.get("usage") or self.usage
        for choice in event.get("choices") or ():
            part = (choice.get("delta") or choice).get("content" if "delta" in choice else "text")
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            if part:
                part = whole(part)
                if self.first_part_s is None:
                    self.first_part_s = time.monotonic() - self.started
                self._parts.append(part)
                self.hear(part)

    def completion(self) -> Completion:
        """Return the whole. Raises EngineUnavailable if the stream ended before it."""
        if self.finish_reason is None or self.usage is None:
            raise EngineUnavailable(f"{self.name} broke off in the middle of an answer; try again")
        return Completion(
            text="".join(self._parts),
            prompt_tokens=int(self.usage["prompt_tokens"]),
            completion_tokens=int(self.usage["completion_tokens"]),
            finish_reason="length" if self.finish_reason == "length" else "stop",
            seconds=time.monotonic() - self.started,
            first_part_s=self.first_part_s,
        )
