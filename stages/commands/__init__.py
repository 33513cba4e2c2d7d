"""What is no stage: the commands that the build adds to the console script."""
