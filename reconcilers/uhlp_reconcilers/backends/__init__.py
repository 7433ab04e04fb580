"""Where instances run: one protocol, and one module for each thing that can run them."""
