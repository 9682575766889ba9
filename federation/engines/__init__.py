"""One model runner a file; the only room that may import torch or llama.cpp."""
