"""What one request may hold: gradio bounds uploads, and reads any other body whole.

Four requests of 100 MB took 2 GB and kept everybody waiting for two seconds.
"""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException

MOST_BYTES = 8 * 2**20  # a pasted text of 2 MB as JSON, and everything else on the page


class SmallBodies:
    """ASGI middleware: a longer body that is no upload is answered with 413."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"].endswith("/upload"):
            await self._app(scope, receive, send)
            return
        taken = 0

        async def bounded() -> Any:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MOST_BYTES:
                raise HTTPException(413, f"a request may hold {MOST_BYTES // 2**20} MiB.")
            return message

        await self._app(scope, bounded, send)
