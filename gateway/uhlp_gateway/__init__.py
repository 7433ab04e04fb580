"""Floor 3: the data plane. Resolves, matches and executes public requests, and serves static files."""
