"""What this machine remembers: receipts of its pushes, and the heads of the chains that it has seen."""
