"""The official checkpoint files: their keys, reading them, and synthetic ones of the same form."""
