"""Measuring: this machine, and what a sample of timings can say."""
