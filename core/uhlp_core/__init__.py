"""Floor 1: settings, the data folder, Redis keys and wake-ups, status, events, logging, ids, errors.

Knows no Git, no containers and no app model; every other package may import it.
"""
