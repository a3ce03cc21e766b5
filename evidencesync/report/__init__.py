"""The audit report: one model of verdict, documents and chain, and its HTML, PDF and JSON views."""
