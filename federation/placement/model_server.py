"""A model server as a node's file declares it: where it is asked, for which model; asks nobody."""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

Seconds = Annotated[float, Field(gt=0)]

# A node whose file declares a server announces this engine.
ENGINE = "openai"
# And this tag, if one of them may write summaries.
SUMMARISES = "summarises"


class ModelServer(BaseModel):
    """A server that speaks OpenAI's API (vLLM, llama.cpp's server), and the model that it is asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]{0,39}$", description="What it is called in commands and in answers.")]
    model: Annotated[str, Field(min_length=1, max_length=200, description="The model, as the server calls it.")]
    url: Annotated[str, Field(description="Where it is asked, such as `http://127.0.0.1:8001`; `/v1` is added where there is no path.")]
    key_file: Annotated[Path | None, Field(description="File with the key that the server wants, read at each call.")] = None
    small: Annotated[bool, Field(description="Whether it is asked first what is simple, and last what is not.")] = False
    summarises: Annotated[bool, Field(description="Whether it may write summaries of conversations; they are checked, and else extracted.")] = False
    first_part_s: Annotated[Seconds, Field(description="Seconds without the beginning of an answer after which the server counts as hanging.")] = 60.0
    part_s: Annotated[Seconds, Field(description="The same between two parts of an answer.")] = 20.0
    weights: Annotated[
        Path | None, Field(description="What `federation model serve` serves: a GGUF file by llama.cpp, or the folder of a model by vLLM.")
    ] = None
    window: Annotated[int, Field(ge=64, description="Tokens that one request may have, where it is served so.")] = 4096
    parallel: Annotated[int, Field(ge=1, le=4096, description="Requests that it works on at once; more of them wait.")] = 4
    gpus: Annotated[int | None, Field(ge=0, le=64, description="Cards that it is served with; unset: all that are there.")] = None

    @field_validator("url")
    @classmethod
    def _is_base(cls, value: str) -> str:
        parts = urlsplit(value.rstrip("/"))
        try:
            sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            sound = False
        if not sound or parts.username or parts.query or parts.fragment:
            raise ValueError("a URL such as http://127.0.0.1:8001, without user, question mark and #; a key goes into a file, named in key_file")
        return parts.geturl() if parts.path else f"{parts.geturl()}/v1"

    @field_validator("key_file", "weights")
    @classmethod
    def _is_absolute(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise ValueError("an absolute path")
        return value

    @property
    def host(self) -> str:
        """The host of its URL."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port of its URL."""
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def remote(self) -> bool:
        """Whether what it is asked leaves this machine."""
        try:
            return not ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"
