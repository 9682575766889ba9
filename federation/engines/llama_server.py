"""`python -m federation.engines.llama_server`: llama.cpp's server for one model, OpenAI's API on one address, until it is asked to end.

What it tells of the model at `/v1/models` has the digest that it was given as a tag: that of the file, as who starts it has found it.
"""

import argparse
import signal
import sys
from pathlib import Path


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    asked = _arguments()
    # Blocked in all threads that are made from here on, so that the wait below gets them.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    from xllamacpp import CommonParams, Server  # noqa: PLC0415 - 100 MB that --help does not need

    params = CommonParams()
    params.model.path = str(asked.weights)
    params.model_alias = {asked.model}
    params.model_tags = {f"sha256:{asked.digest}"} if asked.digest else set()
    params.hostnames, params.port = [asked.host], asked.port
    params.n_ctx, params.n_parallel = asked.window * asked.parallel, asked.parallel
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = asked.threads
    # Threads that spin while they wait make a busy machine many times slower.
    params.cpuparams.poll = params.cpuparams_batch.poll = 0
    params.n_gpu_layers = asked.gpu_layers
    params.endpoint_metrics = params.endpoint_slots = True
    params.ui = False
    params.cors_origins = ""
    if asked.key_file is not None:
        params.api_keys = [asked.key_file.read_text("utf-8").strip()]
    try:
        server = Server(params)
    except (RuntimeError, ValueError) as error:
        raise SystemExit(f"llama.cpp cannot serve {asked.weights}: {error}") from error
    sys.stderr.write(f"serving {asked.model} at {server.listening_address}\n")
    signal.sigwait(ends)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve a GGUF model with llama.cpp over OpenAI's API.")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--model", required=True, help="its name")
    parser.add_argument("--digest", help="SHA-256 of the file")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--window", type=int, default=2048, help="tokens that one request may have")
    parser.add_argument("--parallel", type=int, default=4, help="requests at once; more of them wait")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gpu-layers", type=int, default=0, help="layers that lie on the GPUs")
    parser.add_argument("--key-file", type=Path, help="file with the key that it asks for")
    return parser.parse_args()


if __name__ == "__main__":
    main()
