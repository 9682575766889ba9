"""`python as_folder.py FILE.gguf FOLDER`, in the environment of vLLM: makes of a GGUF file the folder of safetensors that vLLM reads."""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

file, folder = map(Path, sys.argv[1:])
of_file = {"gguf_file": file.name, "local_files_only": True}
model = AutoModelForCausalLM.from_pretrained(file.parent, **of_file, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16)
model.save_pretrained(folder)
AutoTokenizer.from_pretrained(file.parent, **of_file).save_pretrained(folder)
