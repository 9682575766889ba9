"""Chat by llama.cpp inside this process; its own loopback port is locked by a random key and used by nobody."""

import secrets
import time
from collections.abc import Sequence
from typing import Any

from federation.engines.contracts import ChatMessage, Completion
from federation.engines.digests import Weights
from federation.errors import ContextLengthError, EngineUnavailable, InvalidInput, ModelUnavailable


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

    def complete(
        self, messages: Sequence[ChatMessage], *, max_tokens: int = 256, temperature: float = 0.0, seed: int = 0, stop: Sequence[str] = ()
    ) -> Completion:
        """Answer the last message; temperature 0 is greedy.

        Raises ContextLengthError if the prompt is longer than the window, InvalidInput for a request that the model cannot take.
        """
        if not messages:
            raise InvalidInput("messages", [], "at least one message")
        if max_tokens < 1:
            raise InvalidInput("max_tokens", max_tokens, "1 or more")
        request = {
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "seed": seed,
            "stop": list(stop),
        }
        started = time.monotonic()
        try:
            reply = self._server.handle_chat_completions(request)
        except ValueError as error:
            raise InvalidInput("messages", [message.role for message in messages], str(error)) from error
        return self._completion(reply, time.monotonic() - started)

    def _completion(self, reply: dict[str, Any], seconds: float) -> Completion:
        if problem := reply.get("error"):
            if problem.get("type") == "exceed_context_size_error":
                raise ContextLengthError(problem["n_prompt_tokens"], problem["n_ctx"])
            if problem.get("code", 500) < 500:
                raise InvalidInput("request", problem["message"], "what the chat template of the model takes")
            raise EngineUnavailable(f"{self.name} failed: {problem.get('message')}; try again")
        choice, usage = reply["choices"][0], reply["usage"]
        return Completion(
            text=choice["message"]["content"],
            prompt_tokens=usage["prompt_tokens"],
            completion_tokens=usage["completion_tokens"],
            finish_reason="length" if choice["finish_reason"] == "length" else "stop",
            seconds=seconds,
        )
