"""A page whose faults a test sees: console errors, and requests to other hosts."""

from __future__ import annotations

from contextlib import contextmanager


@contextmanager
def watched_page(browser, url, **context_options):  # type: ignore[no-untyped-def]
    """A fresh page on `url`; at its end it had no console error, ran no script of a visitor's
    text, and met no other host.
    """
    context = browser.new_context(
        **{"viewport": {"width": 1280, "height": 1000}, **context_options}
    )
    tab = context.new_page()
    problems: list[str] = []
    tab.on("pageerror", lambda error: problems.append(f"page error: {error}"))
    tab.on(
        "console",
        lambda message: (
            problems.append(f"console: {message.text}") if message.type == "error" else None
        ),
    )
    tab.on("dialog", lambda dialog: problems.append(f"a script ran: {dialog.message}"))
    tab.on(
        "request",
        lambda request: (
            problems.append(f"other host: {request.url}")
            if not request.url.startswith((url.split("?")[0], "data:", "blob:"))
            else None
        ),
    )
    tab.goto(url)
    tab.wait_for_selector("#gen-prompt")
    yield tab
    context.close()
    assert problems == []
