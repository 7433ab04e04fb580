"""Floor 2: what a call may do. ALLOW, DENY or REDACT, decided by rules that are declared in Git."""
