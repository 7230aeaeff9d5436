"""The ground everything stands on: errors, names, optional imports, the frozen state."""
