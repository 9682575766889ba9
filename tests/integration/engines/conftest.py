"""Real models, loaded once for all tests of this folder."""

import pytest

from federation.engines import catalogue
from federation.engines.contracts import ChatEngine, EmbeddingEngine


@pytest.fixture(scope="session")
def minilm() -> EmbeddingEngine:
    return catalogue.embedding("minilm")


@pytest.fixture(scope="session")
def smollm2() -> ChatEngine:
    return catalogue.chat("llamacpp")
