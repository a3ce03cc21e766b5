"""evidencesync: moves evidence over SSH into a vault, and proves it."""

__version__ = "0.1.0"
