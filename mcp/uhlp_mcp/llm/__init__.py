"""Language models for apps: providers, budgets, cache, checked output; the tool `core.llm.generate`."""
