"""The lookup cache: which contents, segments and chunks a vault has. It can be made anew from what is published."""
