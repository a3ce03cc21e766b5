"""The vault's end of a session: authenticates the sender, assembles what arrives, and publishes it."""
