"""Chat by llama.cpp inside this process; its own loopback port is locked by a random key and used by nobody."""

import secrets
from typing import Any

from federation.engines.contracts import Asked, Completion, Halt, Hear, Meanwhile, nobody, nothing
from federation.engines.digests import Weights
from federation.engines.replies import Reply
from federation.errors import InvalidInput, ModelUnavailable


class LlamaCpp:
    """A GGUF model, answering up to `parallel` requests at once, each with a window of its own; more of them wait."""

    def __init__(self, weights: Weights, *, name: str, window: int, parallel: int, threads: int) -> None:
        """Load the model (0.4 s for 100 MB).

        Raises ModelUnavailable if xllamacpp is missing or cannot read the file.
        """
        try:
            # The library is 100 MB: only a process that generates may pay for it.
            from xllamacpp import CommonParams, Server  # noqa: PLC0415
        except ImportError as error:
            raise ModelUnavailable(f"{name} cannot run: {error}; install llama.cpp: pip install 'federation[llm]'") from error
        self.name, self.window = name, window
        self._weights = weights
        params = CommonParams()
        params.model.path = str(weights.path)
        params.n_ctx = window * parallel
        params.n_parallel = parallel
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        # Threads that spin while they wait make a busy machine many times slower.
        params.cpuparams.poll = params.cpuparams_batch.poll = 0
        params.cache_ram_mib = 64
        params.verbosity = 0
        params.n_threads_http = 1
        params.api_keys = [secrets.token_hex(16)]
        params.ui = params.endpoint_slots = False
        params.cors_origins = ""
        try:
            self._server: Any = Server(params)
        except (RuntimeError, ValueError) as error:
            raise ModelUnavailable(f"llama.cpp cannot load {weights.path.name}: {error}; install the file again") from error

    def digest(self) -> str:
        """Return the sha256 of the weights, hexadecimal."""
        return self._weights.digest

    def complete(self, asked: Asked, *, hear: Hear = nobody, halt: Halt | None = None, meanwhile: Meanwhile = nothing) -> Completion:
        """Answer, and tell each part as it comes.

        Raises ContextLengthError if the prompt is longer than the window, InvalidInput for a request that the model cannot take, EngineUnavailable,
        Halted.
        """
        reply, halt = Reply(self.name, hear), halt or Halt()
        # It answers within the call that asks it.
        meanwhile()
        failure: list[Exception] = []

        def take(event: dict[str, Any]) -> bool:
            # What is raised here would be lost in the library.
            try:
                halt.check()
                reply.take(event)
            except Exception as error:  # noqa: BLE001 - raised below, by whoever asked
                failure.append(error)
            return bool(failure)

        ask = self._server.handle_completions if asked.raw else self._server.handle_chat_completions
        try:
            ask(asked.request(), take)
        except ValueError as error:
            raise InvalidInput("request", [message.role for message in asked.messages], f"what the model takes: {error}") from error
        if failure:
            raise failure[0]
        return reply.completion()
