"""What gives files by address: the object stores that fsspec knows, and web servers."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from segue.acquire.transport import CHUNK, Answer, Giver, RefusedError, Transport, TryAgainError
from segue.core.addresses import Address
from segue.core.errors import MachineError, SegueError, UsageError

_DRIVERS = {"s3": "s3fs", "gs": "gcsfs"}
# What tells two states of an object apart, as S3 and Google call it.
_VALIDATORS = ("ETag", "etag", "generation", "md5Hash", "LastModified", "updated", "mtime")
_KEYS = {
    "s3": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (the command 'aws configure' keeps them)",
    "gs": "gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS",
}
_AND_WHERE = {"s3": " and AWS_ENDPOINT_URL", "gs": ""}
_REFUSED = {"403", "AccessDenied", "AllAccessDisabled", "Forbidden"}


@dataclass(frozen=True)
class Remote:
    """A file in a store: how large it is, and by what its state is known (None: by nothing)."""

    bytes: int
    validator: str | None


@runtime_checkable
class Store(Giver, Protocol):
    """A place that lists what lies at an address, and gives each by its key."""

    def listed(self) -> dict[str, Remote]:
        """Every file at and below the address by its full key."""


@contextlib.contextmanager
def opened_store(address: Address) -> Iterator[Store]:
    """The store of an address.

    Raises:
        MachineError: the extra for it is not installed.
    """
    if address.web:
        with Transport() as transport:
            yield _Web(address, transport)
        return
    if any(importlib.util.find_spec(name) is None for name in ("fsspec", _DRIVERS[address.scheme])):
        raise MachineError(
            f"reading {address.scheme}:// needs {_DRIVERS[address.scheme]}",
            where=address,
            remedy=f'pip install "segue[{address.scheme}]"',
        )
    yield _Objects(address)


class _Web:
    """One file on a web server."""

    def __init__(self, address: Address, transport: Transport) -> None:
        self._address, self._transport = address, transport

    def listed(self) -> dict[str, Remote]:
        try:
            with self._transport.get(self._address.full, 0, 1) as (answer, _):
                return {self._address.key: Remote(answer.total or 0, answer.validator)}
        except RefusedError as error:
            raise UsageError(
                "this address gives no file",
                where=self._address,
                value=self._hidden(error),
                remedy="over https, give one file: an image, or an archive for --from",
            ) from None
        except TryAgainError as error:
            raise unreachable(self._address, self._hidden(error)) from None

    @contextlib.contextmanager
    def get(
        self,
        url: str,
        start: int = 0,
        stop: int | None = None,
        *,
        validator: str | None = None,
        stopped: threading.Event | None = None,
    ) -> Iterator[tuple[Answer, Iterator[bytes]]]:
        try:
            given = self._transport.get(self._address.full, start, stop, validator=validator, stopped=stopped)
            with given as found:
                yield found
        except (RefusedError, TryAgainError) as error:
            # What is said ends up in messages and on the disk.
            error.args = (self._hidden(error), *error.args[1:])
            raise

    def _hidden(self, error: Exception) -> str:
        return str(error).replace(self._address.full, str(self._address))


class _Objects:
    """A bucket. Credentials, endpoint and region are those that the store's own tools use."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._found: dict[str, Remote] = {}
        self._anonymous = False
        self._files = self._opened()

    def _opened(self, **options: Any) -> Any:
        import fsspec

        try:
            return fsspec.filesystem(self._address.scheme, skip_instance_cache=True, **options)
        except Exception as error:
            raise self._explained(error) from None

    def listed(self) -> dict[str, Remote]:
        try:
            try:
                found = self._find()
            except Exception as error:
                if self._address.scheme != "s3" or "NoCredentials" not in _code(error):
                    raise
                self._anonymous = True
                self._files = self._opened(anon=True)  # a public bucket asks for none
                found = self._find()
        except Exception as error:
            raise self._explained(error) from None
        prefix = f"{self._address.store}/"
        self._found = {
            path.removeprefix(prefix): Remote(int(info.get("size") or 0), _validator(info))
            for path, info in found.items()
            if not path.endswith("/")  # what some tools put there in place of a folder
        }
        return self._found

    def _find(self) -> dict[str, dict[str, Any]]:
        self._files.invalidate_cache()
        path = f"{self._address.store}/{self._address.key}"
        return dict(self._files.find(path.rstrip("/"), detail=True))

    @contextlib.contextmanager
    def get(
        self,
        url: str,
        start: int = 0,
        stop: int | None = None,
        *,
        validator: str | None = None,
        stopped: threading.Event | None = None,
    ) -> Iterator[tuple[Answer, Iterator[bytes]]]:
        known = self._found[url]
        if start and validator != known.validator:
            start = 0  # what is here is the beginning of another state
        stop = min(stop or known.bytes, known.bytes)
        yield Answer(start, known.bytes, known.validator, True), self._chunks(url, start, stop)

    def _chunks(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        try:
            # s3fs asks for each part of the state that was listed (If-Match).
            with self._files.open(f"{self._address.store}/{key}", "rb", cache_type="none") as handle:
                handle.seek(start)
                while start < stop:
                    chunk = handle.read(min(4 * CHUNK, stop - start))
                    if not chunk:
                        raise TryAgainError("the connection ended early")
                    start += len(chunk)
                    yield chunk
        except (TryAgainError, SegueError):
            raise
        except Exception as error:
            code = _code(error)
            if "Expired" in code or "Precondition" in code or code in ("412", "416", "InvalidRange"):
                raise RefusedError("it changed while it was read") from None
            if isinstance(error, FileNotFoundError):
                raise RefusedError("it is not there any more") from None
            if isinstance(error, PermissionError):
                raise RefusedError(f"access is not allowed ({code})") from None
            raise TryAgainError(f"the store has a fault ({code})") from None

    def _explained(self, error: Exception) -> SegueError:
        """Of an error only its kind is told: its text may hold keys and signed addresses."""
        if isinstance(error, SegueError):
            return error
        code, scheme = _code(error), self._address.scheme
        if "NoSuchBucket" in code:
            bucket = f"{scheme}://{self._address.store}"
            return UsageError("there is no such bucket", where=bucket, remedy=f"check its name{_AND_WHERE[scheme]}")
        if isinstance(error, FileNotFoundError):
            return nothing_there(self._address)
        if isinstance(error, PermissionError) or code in _REFUSED or "Credential" in code or "Token" in code:
            what = "access is not allowed" + (", and no credentials were found" if self._anonymous else "")
            return MachineError(what, where=self._address, value=code, remedy=_KEYS[scheme])
        return unreachable(self._address, code)


def nothing_there(address: Address) -> UsageError:
    return UsageError(
        "nothing lies at this address", where=address, remedy="check the address: names are case-sensitive"
    )


def unreachable(address: Address, why: str) -> MachineError:
    return MachineError(
        "this place cannot be reached",
        where=address,
        value=why,
        remedy=f"check the network{_AND_WHERE.get(address.scheme, '')}, then run this again: what came is kept",
    )


def _validator(info: dict[str, Any]) -> str | None:
    return next((str(info[name]).strip('"') for name in _VALIDATORS if info.get(name)), None)


def _code(error: BaseException) -> str:
    """What kind of error it is, in the store's own word where it says one."""
    seen: BaseException | None = error
    for _ in range(6):
        answer = getattr(seen, "response", None)
        told = answer.get("Error", {}).get("Code") if isinstance(answer, dict) else None
        if told:
            return re.sub(r"[^\w.-]", "", str(told))[:80]
        seen = None if seen is None else seen.__cause__ or seen.__context__
    return type(error).__name__
