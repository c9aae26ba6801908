"""What can go wrong with an object store: which requests are worth trying again, and what the user is told."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from positronic.errors import PositronicError
from positronic.storage.config import StorageConfig, endpoint_of
from positronic.storage.uri import S3Uri

EXPIRED_CODES = ("ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed")
REGION_CODES = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
RETRIED_CODES = {
    "SlowDown",
    "RequestTimeout",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "ConditionalRequestConflict",
    "OperationAborted",
    "BadDigest",  # the body was damaged on its way there
    "IncompleteBody",
}
NOT_IMPLEMENTED = 501
FIRST_DELAY_SEC, LONGEST_DELAY_SEC = 0.1, 20.0


class MissingError(PositronicError):
    """There is no such object or bucket."""


class PreconditionError(PositronicError):
    """The object is not, or no longer, the expected one; or it exists and should not."""


class DamagedError(PositronicError):
    """The bytes that arrived are not those that were published."""


def backoff_sec(tries: int) -> float:
    """How long to wait after the ``tries``-th failure, from 0 on: doubled each time, and spread by half."""
    return min(FIRST_DELAY_SEC * 2**tries, LONGEST_DELAY_SEC) * random.uniform(0.5, 1.0)


def status_of(error: BaseException) -> tuple[int, str]:
    """HTTP status and S3 error code; (0, "") for what is no answer of the store."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    if not isinstance(response, dict):
        return 0, ""
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status, str(response.get("Error", {}).get("Code", ""))


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    import aiohttp
    from botocore import exceptions

    status, code = status_of(error)
    if status:
        return code in RETRIED_CODES or status == 429 or (status >= 500 and status != NOT_IMPLEMENTED)
    network = (
        exceptions.HTTPClientError,
        exceptions.ConnectionError,
        exceptions.IncompleteReadError,
        aiohttp.ClientError,
        asyncio.TimeoutError,
        ConnectionError,
        EOFError,
    )
    return isinstance(error, network) or type(error).__name__ == "ResponseParserError"


def is_unreachable(error: Exception) -> bool:
    """Whether no connection could be made at all: a wrong address fails like this too."""
    from botocore import exceptions

    return isinstance(error, exceptions.ConnectionError)


def explain(error: Exception, what: S3Uri, config: StorageConfig) -> Exception:
    """The error for the user: a PositronicError that says what to do. Errors that no store or network caused stay as
    they are."""
    from botocore import exceptions

    status, code = status_of(error)
    if isinstance(error, PositronicError):
        return error
    if code == "PreconditionFailed" or status == 412:
        return PreconditionError(f"{what} at {endpoint_of(config)} is not as expected: another process has written it.")
    if code == "NoSuchBucket":
        return MissingError(f"There is no bucket '{what.bucket}' at {endpoint_of(config)}.{_endpoint_hint(config)}")
    if status == 404:
        return MissingError(f"There is no {what} at {endpoint_of(config)}.")
    if code in REGION_CODES or status == 301:
        return PositronicError(f"{what}: the bucket is in another region ({code or status}): storage.region=<region>.")
    if status == NOT_IMPLEMENTED:
        return PositronicError(
            f"{what}: {endpoint_of(config)} does not know conditional writes, so that two writers "
            "could mix what they write. Take another store, or a local folder."
        )
    if status in (401, 403) or code in EXPIRED_CODES:
        return PositronicError(
            f"{what}: access denied by {endpoint_of(config)}{_as_whom(config)} ({code or status}). {HOW}"
        )
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return PositronicError(f"{what}: there are no credentials for {endpoint_of(config)}. {HOW}")
    if isinstance(error, exceptions.ProfileNotFound):
        return PositronicError(f"storage.profile={config.profile}: there is no such profile in ~/.aws. {HOW}")
    if is_unreachable(error):
        return PositronicError(f"{what}: no connection to {endpoint_of(config)}.{_endpoint_hint(config)}")
    if isinstance(error, exceptions.BotoCoreError | exceptions.ClientError) or is_transient(error):
        return PositronicError(
            f"{what} at {endpoint_of(config)}: {_in_short(error)}. Try again; finished parts are kept."
        )
    return error


HOW = (
    "Keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or from storage.profile=<name>; public buckets need "
    "storage.anonymous=true (those of a raw dataset: dataset.storage.profile, dataset.storage.anonymous)."
)


def _as_whom(config: StorageConfig) -> str:
    if config.anonymous:
        return " without a signature (anonymous)"
    return f" for profile '{config.profile}'" if config.profile else ""


def _endpoint_hint(config: StorageConfig) -> str:
    if config.endpoint_url:
        return " Check storage.endpoint_url (of a raw dataset: dataset.storage.endpoint_url)."
    return " Is it elsewhere? storage.endpoint_url=<url>, or AWS_ENDPOINT_URL."


def _in_short(error: Exception) -> str:
    status, code = status_of(error)
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{code or 'error'} {status or ''}: {text}".replace(" :", ":") if status else text
