"""The vault's end of a session: authenticates the sender, assembles the contents that arrive, and publishes the acquisition."""
