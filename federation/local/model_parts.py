"""A model server as a part that is supervised: the commands of llama.cpp's server and vLLM's, and what must hold before either starts."""

import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from federation.errors import LocalServiceError
from federation.local.parts import PYTHON, Part

# A large model on a slow disk.
READY_WITHIN_S = 1800.0
# No hub is asked for anything, and nothing is told to anybody.
_QUIET = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What is served, where, and with what: `threads` where there are no `cards`."""

    name: str
    model: str
    weights: Path
    digest: str
    host: str
    port: int
    window: int
    parallel: int
    cards: int
    threads: int
    key_file: Path | None
    vllm_python: Path | None

    def part(self, *, is_ready: Callable[[], bool], check: Callable[[], None]) -> Part:
        """Return the part; `check` is called before each start. Raises LocalServiceError for a folder where there is no vLLM."""

        def prepare() -> None:
            self._require_address()
            check()

        command, environment = self._by_llama() if self.weights.is_file() else self._by_vllm()
        return Part(
            name=self.name,
            command=command,
            environment=environment,
            is_ready=is_ready,
            prepare=prepare,
            ready_within_s=READY_WITHIN_S,
            # vLLM's engine and workers are processes of their own, which nobody ends where it cannot.
            death_signal=signal.SIGKILL if self.weights.is_file() else signal.SIGTERM,
        )

    def _by_llama(self) -> tuple[list[str | Path], Mapping[str, str]]:
        where = ["--model", self.model, "--host", self.host, "--port", str(self.port), "--digest", self.digest]
        size = ["--window", str(self.window), "--parallel", str(self.parallel), "--threads", str(self.threads)]
        on_cards = ["--gpu-layers", "999"] if self.cards else []
        key = ["--key-file", str(self.key_file)] if self.key_file else []
        return [*PYTHON, "federation.engines.llama_server", "--weights", self.weights, *where, *size, *on_cards, *key], {}

    def _by_vllm(self) -> tuple[list[str | Path], Mapping[str, str]]:
        if self.vllm_python is None:
            raise LocalServiceError(
                f"{self.weights} is a folder, which vLLM serves; install vLLM in an environment of its own and name its Python in "
                "FEDERATION_VLLM_PYTHON, or name a GGUF file in `weights`"
            )
        # The second name tells the digest to whoever asks what there is.
        names = ["--served-model-name", self.model, f"{self.model}@sha256:{self.digest}"]
        where = ["--host", self.host, "--port", str(self.port)]
        size = ["--max-model-len", str(self.window), "--max-num-seqs", str(self.parallel)]
        # Tensor parallelism within the machine; on a CPU what vLLM needs to run there at all.
        on_what = ["--tensor-parallel-size", str(self.cards)] if self.cards else ["--dtype", "bfloat16", "--enforce-eager"]
        of_cpu = (
            {}
            if self.cards
            else {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": f"0-{self.threads - 1}", "VLLM_CPU_NUM_OF_RESERVED_CPU": "0"}
        )
        key = {"VLLM_API_KEY": self.key_file.read_text("utf-8").strip()} if self.key_file else {}
        served: list[str | Path] = ["--model", self.weights, *names, *where, *size, *on_what]
        return [self.vllm_python, "-m", "vllm.entrypoints.openai.api_server", *served], {**_QUIET, **of_cpu, **key}

    def _require_address(self) -> None:
        """Pass if the server can have its address. Whoever else answers there would be taken for it."""
        try:
            socket.create_server((self.host, self.port), family=socket.AF_INET6 if ":" in self.host else socket.AF_INET).close()
        except OSError as error:
            why = str(error.strerror or error).partition(" (")[0]
            raise LocalServiceError(
                f"{self.name} cannot have {self.host}:{self.port} here ({why}); end what has it, or correct the node's file"
            ) from error
