"""The store: a corpus on disk, as NumPy files and a manifest."""
