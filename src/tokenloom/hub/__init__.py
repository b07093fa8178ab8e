"""Texts by name: what there is, where it is fetched from, and how it is kept."""

from tokenloom.hub.cache import cache_folder, fetch, locate
from tokenloom.hub.catalogue import Archive, BuiltIn, Entry, RemoteFile, list_entries, register
from tokenloom.hub.load import read_documents

__all__ = [
    "Archive",
    "BuiltIn",
    "Entry",
    "RemoteFile",
    "cache_folder",
    "fetch",
    "list_entries",
    "locate",
    "read_documents",
    "register",
]
