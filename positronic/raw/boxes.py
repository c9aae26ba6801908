"""The boxes that an mp4 consists of (ISO/IEC 14496-12, 4.2): they end where the file does, unless it was cut.

A player shows a file whose last bytes are gone without a word, as long as it needs none of them; and a header at the
front is whole though frames were cut off behind it.
"""

from __future__ import annotations

from pathlib import Path

HEADER = 8  # bytes: size and kind
FIRST_KIND = b"ftyp"
TO_THE_END, LARGE = 0, 1  # sizes that stand for the rest of the file, and for 64 bits that follow


def missing_end(path: Path) -> str | None:
    """What says that the mp4 at ``path`` was cut short; None when it is whole, and for what begins like no mp4. Raises
    OSError when it cannot be read."""
    end, start = path.stat().st_size, 0
    with path.open("rb") as file:
        while start < end:
            file.seek(start)
            header = file.read(2 * HEADER)
            if not start and header[4:HEADER] != FIRST_KIND:
                return None
            size = int.from_bytes(header[:4])
            size = int.from_bytes(header[HEADER:]) if size == LARGE else size
            size = end - start if size == TO_THE_END else size
            if size < HEADER or start + size > end:
                return f"what begins at byte {start} should end at {start + size}, the file does at {end}"
            start += size
    return None
