"""What holds for every test."""

from hypothesis import settings

# The same examples in every run, each with the time it needs: on a busy machine any of thousands may be held
# up for a while, and an example that fails must fail in the run of whoever broke it.
settings.register_profile("uhlp", deadline=None, derandomize=True)
settings.load_profile("uhlp")
