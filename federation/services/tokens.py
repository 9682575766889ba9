"""How many tokens a text has, about: until a model has counted, which corrects it, and for what agents read."""

# Of English.
CHARACTERS_A_TOKEN = 4


def about(characters: int) -> int:
    """Return about how many tokens so many characters are."""
    return characters // CHARACTERS_A_TOKEN
