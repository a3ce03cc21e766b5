"""Exports a verified acquisition in formats of other tools: a bag, a list of known files or a graph, encrypted if needed."""
