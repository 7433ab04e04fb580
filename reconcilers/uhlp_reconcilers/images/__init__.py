"""The images that sandboxes run in: what they are made of, and how they come to be without a registry."""
