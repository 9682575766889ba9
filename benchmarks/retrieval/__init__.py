"""How well the search finds the right file of an installed package."""
