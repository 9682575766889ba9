"""Indexing and searching the standard library of CPython: speed through the queue, and quality by its docstrings."""
