"""One module a dialect. Each has `router(service)`, its records of the dialect, and how it writes a refusal."""
