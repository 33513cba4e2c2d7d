"""Vector spaces: whether two releases may share an index, maps from one space to another, audits of an index."""
