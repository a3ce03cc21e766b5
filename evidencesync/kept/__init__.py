"""What this machine keeps of its own: receipts of its pushes, and how far it has seen the chains of vaults."""
