"""`core.linux.executeCommand` (specification 10.2): allowed programs, run by a user without rights."""
