"""Top floor: the command `uhlp`. Commands read Git and Redis and call the gateway; only Git is written."""
