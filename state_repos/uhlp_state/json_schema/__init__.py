"""Holds values against JSON Schemas of apps: at once where that is sure, else where it can be ended."""
