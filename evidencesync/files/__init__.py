"""Opens, writes, copies, locks and syncs files and folders."""
