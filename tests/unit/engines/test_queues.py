"""What servers say of their queues."""

import pytest

from federation.engines.queues import depth_of

VLLM = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="Qwen"} 3.0
vllm:num_requests_waiting{engine="0",model_name="Qwen"} 2.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 7.0
vllm:num_requests_running{engine="1",model_name="Qwen"} 1.0
"""


@pytest.mark.parametrize(
    ("told", "depth"),
    [(VLLM, 6), ("llamacpp:requests_processing 2\nllamacpp:requests_deferred 5\n", 7), ("process_cpu_seconds_total 3\n", None), ("", None)],
)
def test_requests_that_run_or_wait_are_summed(told: str, depth: int | None) -> None:
    assert depth_of(told) == depth
