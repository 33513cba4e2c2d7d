"""What every stage shares: the config schema, the stage contract, the network doors."""
