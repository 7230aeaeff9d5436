"""The house: imports, door, sizes, cards and texts. Each guard is shown able to fail."""
