"""Makes a working copy of an acquisition outside the vault."""
