"""URIs in and out: local folders, and folders in an object store by way of a local cache.

Here is what concerns local folders; reading by URI is in ``folder``, writing in ``outgoing``.
"""

from positronic.storage.config import StorageConfig as StorageConfig
from positronic.storage.local import exists as exists
from positronic.storage.local import local_path as local_path
from positronic.storage.local import partial_path as partial_path
from positronic.storage.local import publish_folder as publish_folder
from positronic.storage.uri import is_remote as is_remote
from positronic.storage.uri import join as join
