"""Single files out of an archive that stays where it is: a seekable file made of range requests."""

from __future__ import annotations

import io
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from segue.acquire.archives import Member, tar_members, zip_members
from segue.acquire.transport import RefusedError, Transport, TryAgainError, backoff_s

_ATTEMPTS = 6
# A tar's headers lie between its files. A request costs as much time as some hundred kilobytes: with this buffer small
# files come along with the headers, and large ones are skipped.
_BUFFER = 128 << 10
_MOST_AHEAD = 4 << 20


class RemoteFile(io.RawIOBase):
    """A file at an address that gives ranges.

    Attributes:
        fetched: bytes that came over the network.
        validator: by which it is known to be the same file again, where the server gives one.
    """

    def __init__(self, transport: Transport, url: str, on_bytes: Callable[[int], None] = lambda number: None) -> None:
        self._transport, self._url, self._position, self._on_bytes = transport, url, 0, on_bytes
        self._kept, self._kept_at, self._window = b"", 0, _BUFFER
        self.fetched = 0
        with transport.get(url, 0, 1) as (answer, chunks):
            if not answer.partial or answer.total is None:
                raise RefusedError("this server does not give parts of files")
            for chunk in chunks:
                self.fetched += len(chunk)
            self.size, self.validator = answer.total, answer.validator

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        end = self._kept_at + len(self._kept)
        if self._position >= self.size:
            return 0
        if not self._kept_at <= self._position < end:
            # Who reads on and on gets more at a time; who jumps from header to header gets little.
            self._window = min(4 * self._window, _MOST_AHEAD) if self._position == end else _BUFFER
            stop = min(self._position + max(self._window, len(buffer)), self.size)
            self._kept, self._kept_at = self._fetch(self._position, stop), self._position
        begin = self._position - self._kept_at
        content = self._kept[begin : begin + len(buffer)]
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def _fetch(self, start: int, stop: int) -> bytes:
        content = bytearray()
        failures = 0
        while True:
            try:
                at = start + len(content)
                with self._transport.get(self._url, at, stop, validator=self.validator) as (answer, chunks):
                    same = answer.total == self.size and answer.validator in (None, self.validator)
                    if answer.start != at or not same:
                        raise RefusedError("the file changed while it was read")
                    for chunk in chunks:
                        content += chunk
                        self.fetched += len(chunk)
                        self._on_bytes(len(chunk))
                        failures = 0
                if len(content) >= stop - start:
                    return bytes(content)
                raise TryAgainError("the connection ended early")
            except TryAgainError as error:
                failures += 1
                if failures > _ATTEMPTS:
                    raise
                time.sleep(error.wait_s if error.wait_s is not None else backoff_s(failures - 1))


@contextmanager
def remote_members(
    transport: Transport, url: str, name: str, on_bytes: Callable[[int], None] = lambda number: None
) -> Iterator[tuple[Iterator[Member], RemoteFile]]:
    """The files of a tar or zip at an address, found without fetching it: a zip's at once, a tar's one by one.

    Raises:
        RefusedError, TryAgainError: the address does not give parts of files. DataError: something unsafe in it.
    """
    raw = RemoteFile(transport, url, on_bytes)
    stream = io.BufferedReader(raw, _BUFFER)
    if name.lower().endswith(".zip"):
        with zipfile.ZipFile(stream) as content:
            yield iter(zip_members(content, name, raw.size)), raw
    elif name.lower().endswith(".tar"):
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            yield tar_members(archive, name), raw
    else:
        raise RefusedError("single files come out of .tar and .zip archives only")
