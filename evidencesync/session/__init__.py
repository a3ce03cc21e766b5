"""The two ends as state machines: messages in, events and frames out. No socket, no file, no clock."""
