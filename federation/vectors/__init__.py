"""Files to chunks to ranked hits; the only room that may import LanceDB and Arrow."""
