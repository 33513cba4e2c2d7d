"""Everything that computes a vector: variant.json, the kinds of variants, an encoder for each."""
