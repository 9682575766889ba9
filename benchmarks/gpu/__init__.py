"""How many chunks a second a GPU embeds through our engine, beside bare sentence-transformers."""
