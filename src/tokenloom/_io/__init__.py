"""Files and processes, below everything that knows of tokens."""
