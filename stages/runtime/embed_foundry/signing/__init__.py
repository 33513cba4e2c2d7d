"""Signing in-toto statements, with a key pair or as whoever an OIDC token names."""
