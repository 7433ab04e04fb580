"""The checks that make up a validation, one concern per file. `uhlp_state.validate` puts them together."""
