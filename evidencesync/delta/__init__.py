"""Computes deltas: cuts contents, compares them with a basis, and describes them in recipes. Reads no file and no clock."""
