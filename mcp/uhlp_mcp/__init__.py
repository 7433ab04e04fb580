"""Floor 3: the MCP server, the sandboxes' one way out, and the way to apps' tools for people's clients."""
