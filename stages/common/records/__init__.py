"""What crosses a stage boundary: each record is a frozen class that is written and read here only."""
