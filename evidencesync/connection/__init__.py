"""Carries bytes and messages between the two ends: links, queues, reconnecting. Blocking, ordered, bounded."""
