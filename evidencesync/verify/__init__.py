"""Numbered checks of a vault from the bytes up, and their findings."""
