"""The delta engine: bytes in, instructions out. Nothing here reads a file or a clock."""
