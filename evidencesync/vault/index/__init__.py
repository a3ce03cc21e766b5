"""The lookup cache: which contents, segments and chunks a vault has. It can be rebuilt from published acquisitions."""
