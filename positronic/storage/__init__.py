"""Folders by path or URI: local ones, and those in an object store by way of a local cache.

This module has what concerns local folders. ``folder`` reads by URI, ``outgoing`` writes.
"""

from positronic.storage.config import StorageConfig as StorageConfig
from positronic.storage.local import exists as exists
from positronic.storage.local import local_path as local_path
from positronic.storage.local import partial_path as partial_path
from positronic.storage.local import publish_folder as publish_folder
from positronic.storage.uri import is_remote as is_remote
from positronic.storage.uri import join as join
