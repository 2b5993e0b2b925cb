"""Download files so that a broken connection costs nothing: retried, continued, checked."""

import http.client
import logging
import time
import urllib.error
import urllib.request
from pathlib import Path

from anymae.errors import DataError
from anymae.files import sha256, told

logger = logging.getLogger(__name__)

RETRIES, WAIT, TIMEOUT = 4, 1.0, 30.0
"""Attempts, seconds before the second one (doubling), seconds without an answer."""
FOR_NOW = (408, 429)
"""Answers that say "too slow" and "too often": another attempt may do."""
BLOCK = 1 << 20
ADVICE = "make room, or name another folder with --data; what was fetched stays"


def download(url: str, to: Path, *, digest: str | None = None, wait: float = WAIT) -> Path:
    """Fetch a file; what an earlier attempt has got is continued.

    Args:
        url: Where from.
        to: Where to; a file that is there, and has the digest, is kept.
        digest: sha256 that it must have; `None` where what is made of it is checked instead.
        wait: Seconds before the second attempt.

    Raises:
        DataError: It cannot be had, or has another sha256.
        FolderError: It cannot be written.
    """
    if to.exists() and (digest is None or sha256(to) == digest):
        return to
    with told(to, ADVICE):
        to.parent.mkdir(parents=True, exist_ok=True)
    part = to.with_name(f"{to.name}.part")
    for attempt in range(RETRIES):
        if attempt:
            time.sleep(wait * 2 ** (attempt - 1))
        try:
            _continue(url, part)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in FOR_NOW:
                raise DataError(f"{url} answers {error.code} {error.reason}") from None
            problem = str(error)
        except (OSError, EOFError, http.client.HTTPException) as error:
            problem = str(error)
        logger.warning("%s: %s; trying again", url, problem)
    else:
        raise DataError(f"{url} could not be fetched ({problem}); check the connection, run again")
    if digest is not None and (found := sha256(part)) != digest:
        part.unlink()
        raise DataError(f"{url} has sha256 {found}, not {digest}; the file has changed, report it")
    return part.replace(to)


def _continue(url: str, part: Path) -> None:
    """Append what is missing of a file."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range", f"bytes */{have}") == f"bytes */{have}":
            return  # Nothing is missing.
        part.unlink()
        raise EOFError("what was fetched before is longer than the file") from None
    with answer:
        begins = answer.headers.get("Content-Range", f"bytes {have}-")
        if answer.status == 206 and not begins.startswith(f"bytes {have}-"):
            part.unlink(missing_ok=True)
            raise EOFError(f"the answer begins elsewhere ({begins}) than at byte {have:,}")
        # A server that knows no ranges sends the whole.
        mode = "ab" if answer.status == 206 else "wb"
        expected = answer.headers.get("Content-Length")
        count = 0
        _write(part, mode, b"")
        while block := answer.read(BLOCK):
            _write(part, "ab", block)
            count += len(block)
    if expected is not None and count < int(expected):
        raise EOFError(f"the connection broke after {count:,} of {int(expected):,} bytes")


def _write(part: Path, mode: str, block: bytes) -> None:
    """Write a block; what this machine cannot write is no fault of the connection."""
    with told(part, ADVICE), part.open(mode) as file:
        file.write(block)
