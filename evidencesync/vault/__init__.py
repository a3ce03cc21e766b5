"""Keeps evidence: plain files that are published whole or not at all, and never change afterwards."""
