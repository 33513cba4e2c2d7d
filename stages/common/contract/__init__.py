"""The stage contract: atomic outputs, documented exits, visible progress."""
