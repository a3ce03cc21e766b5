"""The use cases that join the rooms below: push, receive, and what carries bytes between them."""
