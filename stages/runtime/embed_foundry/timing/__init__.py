"""Timing variants beside each other, each in a process of its own: how a build measures, and how a host certifies."""
