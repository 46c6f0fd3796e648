"""What one request may hold: gradio bounds uploads, and reads any other body whole.

Four requests of 100 MB took 2 GB and kept everybody waiting for two seconds.
"""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException

MOST_BYTES = 8 * 2**20  # a pasted text of 2 MB as JSON, and everything else on the page


def small_bodies(app: Any) -> Any:
    """ASGI middleware: a longer body that is no upload is answered with 413."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        taken = 0

        async def bounded() -> Any:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MOST_BYTES:
                raise HTTPException(413, f"a request may hold {MOST_BYTES // 2**20} MiB.")
            return message

        free = scope["type"] != "http" or scope["path"].endswith("/upload")
        await app(scope, receive if free else bounded, send)

    return answer
