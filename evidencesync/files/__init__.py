"""How files are opened, closed, written, copied, locked and synced."""
