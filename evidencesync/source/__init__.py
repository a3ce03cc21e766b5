"""Reads evidence where it lies, and never writes there."""
