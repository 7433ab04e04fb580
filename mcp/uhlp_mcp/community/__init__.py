"""Other people's MCP servers (`community.*`, specification 5.2): run or reached for one app at a time."""
