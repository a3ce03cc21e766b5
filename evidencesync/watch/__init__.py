"""Decides when a source that changes is acquired again."""
