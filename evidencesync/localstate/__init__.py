"""Keeps this machine's own state: receipts of its pushes, remembered chain heads, pending records, and watched sources."""
