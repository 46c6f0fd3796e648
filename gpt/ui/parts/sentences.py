"""Sentences and formulas under a view, as HTML; every text is escaped here."""

from html import escape


def say(text: str, kind: str = "say") -> str:
    """One paragraph, nothing for an empty text.

    `kind` is a class of assets/style.css: say, note (a bar), hint or stats (both grey).
    """
    return f'<p class="{kind}">{escape(text)}</p>' if text else ""


def quoted(piece: str) -> str:
    """A token's text within a sentence: it may be a comma or a space."""
    return f"“{piece}”"


def formula(general: str, numbers: str) -> str:
    """A formula, then the same with this run's numbers."""
    return (
        f'<p class="formula"><span>{escape(general)}</span><br><span>{escape(numbers)}</span></p>'
    )
