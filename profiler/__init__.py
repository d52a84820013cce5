"""The offline side: what a model should take on a stack, from coefficient tables."""
