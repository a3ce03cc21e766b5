"""The only transport: SSH, as a client, behind sshd, and as a server of our own."""
