"""Is the explanation of any network exact? `python -m tests.any` answers it, a line an architecture."""
