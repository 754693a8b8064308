"""Who can open what, since when, and what they could ever open. Read from files as they stand: no key is needed."""
