"""The command line: parses, calls the rooms below, and prints. The only room that speaks to people."""
