"""Hashes, keys and signatures as values; reads no table."""
