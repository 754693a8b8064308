"""How long the function takes, in units of an empty interpreter: `make bench`."""
