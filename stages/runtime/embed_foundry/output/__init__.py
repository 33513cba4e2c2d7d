"""Writes outputs so that they are absent or complete, whatever ends the process."""
