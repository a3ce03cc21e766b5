"""Runs the other end of a push or a pull: on sshd's streams, or as an SSH server of our own."""
