"""Value types of the domain (paths, digests, entries, times, names): frozen, and checked when they are made."""
