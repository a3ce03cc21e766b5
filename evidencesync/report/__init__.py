"""Verdict, documents and chain, made readable: one model, and HTML, PDF and JSON views of it."""
