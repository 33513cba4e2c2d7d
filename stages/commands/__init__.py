"""The commands that the build adds to the console script; none of them is a stage."""
