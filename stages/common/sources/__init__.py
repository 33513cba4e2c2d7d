"""Where models and texts come from: the hub, users' files, what installed packages carry."""
