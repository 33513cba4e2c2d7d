"""What stages share: configuration schema, records, limits, sources of models and texts, stage contract, measuring."""
