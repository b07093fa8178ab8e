"""The store: a corpus on disk, as NumPy files and a manifest."""

from tokenloom.store.manifest import Manifest
from tokenloom.store.reader import open_store
from tokenloom.store.verify import check_store, verify_store

__all__ = ["Manifest", "check_store", "open_store", "verify_store"]
