"""Certificates: what a release does on a host, measured there by the build's protocol and kept beside the release."""
