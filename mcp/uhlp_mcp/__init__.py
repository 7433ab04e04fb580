"""Floor 3: the sandboxes' one way out, an MCP server per instance on a Unix socket of its own."""
