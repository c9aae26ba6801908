"""``python -m positronic.storage clean s3://...``: remove what uploads that were killed left behind."""

from __future__ import annotations

import argparse
import sys

from positronic.errors import PositronicError
from positronic.storage.config import StorageConfig
from positronic.storage.publishing import clean


def main() -> None:
    """Parse the command line and do it; a user's mistake is one line and exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m positronic.storage", description=__doc__)
    parser.add_argument("action", choices=["clean"])
    parser.add_argument("uri")
    parser.add_argument("--endpoint-url")
    parser.add_argument("--profile")
    parser.add_argument("--region")
    asked = parser.parse_args()
    config = StorageConfig(endpoint_url=asked.endpoint_url, profile=asked.profile, region=asked.region)
    try:
        print(f"{clean(asked.uri, config)} objects removed from {asked.uri}")
    except PositronicError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
