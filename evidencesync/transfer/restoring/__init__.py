"""A working copy out of a vault: what is wanted of it, how it is made beside its place, and what the system refused."""
