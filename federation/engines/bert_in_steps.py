"""Makes CTranslate2's form of a BERT model, each weight one of 255 steps: `python -m federation.engines.bert_in_steps FOLDER INTO`.

A process of its own, because the library's descriptions of models import torch wherever it is installed, which takes seconds and 300 MB.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def make(folder: Path, into: Path) -> None:
    """Read the model of a folder, as transformers writes it, and write CTranslate2's into another."""
    from ctranslate2.converters.utils import fuse_linear  # noqa: PLC0415 - imports torch unless that is kept from it first
    from ctranslate2.specs.common_spec import Activation, EmbeddingsMerge, LinearSpec  # noqa: PLC0415
    from ctranslate2.specs.transformer_spec import TransformerEncoderModelSpec, TransformerEncoderSpec  # noqa: PLC0415
    from safetensors.numpy import load_file  # noqa: PLC0415

    config = json.loads((folder / "config.json").read_text("utf-8"))
    tensors = load_file(folder / "model.safetensors")
    encoder = TransformerEncoderSpec(
        config["num_hidden_layers"],
        config["num_attention_heads"],
        pre_norm=False,
        activation=Activation.GELU,
        num_source_embeddings=2,
        embeddings_merge=EmbeddingsMerge.ADD,
        layernorm_embedding=True,
    )
    encoder.scale_embeddings = False
    words, kinds = encoder.embeddings
    words.weight = tensors["embeddings.word_embeddings.weight"]
    kinds.weight = tensors["embeddings.token_type_embeddings.weight"]
    encoder.position_encodings.encodings = tensors["embeddings.position_embeddings.weight"]
    _norm(encoder.layernorm_embedding, tensors, "embeddings.LayerNorm")
    for number, layer in enumerate(encoder.layer):
        name, attention = f"encoder.layer.{number}", layer.self_attention
        read = [_linear(LinearSpec(), tensors, f"{name}.attention.self.{part}") for part in ("query", "key", "value")]
        fuse_linear(attention.linear[0], read)
        _linear(attention.linear[1], tensors, f"{name}.attention.output.dense")
        _norm(attention.layer_norm, tensors, f"{name}.attention.output.LayerNorm")
        _linear(layer.ffn.linear_0, tensors, f"{name}.intermediate.dense")
        _linear(layer.ffn.linear_1, tensors, f"{name}.output.dense")
        _norm(layer.ffn.layer_norm, tensors, f"{name}.output.LayerNorm")
    model = TransformerEncoderModelSpec(encoder)
    model.config.layer_norm_epsilon = config["layer_norm_eps"]
    # It wants a name for each token; it is given tokens by their numbers.
    model.register_vocabulary([str(number) for number in range(config["vocab_size"])])
    model.validate()
    model.optimize(quantization="int8")
    model.save(str(into))


def _linear(spec: Any, tensors: Mapping[str, Any], name: str) -> Any:
    spec.weight, spec.bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
    return spec


def _norm(spec: Any, tensors: Mapping[str, Any], name: str) -> None:
    spec.gamma, spec.beta = tensors[f"{name}.weight"], tensors[f"{name}.bias"]


if __name__ == "__main__":
    # So that an import of it fails, which the library takes for «not installed».
    sys.modules["torch"] = None  # type: ignore[assignment]
    make(Path(sys.argv[1]), Path(sys.argv[2]))
