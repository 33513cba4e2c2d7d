"""A base model: its files before anything loads them, and what it is once sentence-transformers has loaded it."""
