"""A visitor's text: its states, with undo and redo over all of them, and what is asked of it."""

from dataclasses import dataclass, field

from gpt.generate import Step
from gpt.ui.generation.continuation import HINT, Draft, guess_html, panel_html
from gpt.ui.generation.runs import Claim, Writing

MOST_DRAFTS = 40
MOST_STEPS = 4_000  # of all drafts together; a step takes about a kilobyte


@dataclass
class Story:
    """The drafts of one page, what is chosen in them, and what was asked for last."""

    drafts: list[Draft] = field(default_factory=list)
    at: int = -1
    asked: Claim | None = None  # of a click, until its run begins, which gradio may refuse
    claim: Claim | None = None  # of the run that goes on
    live: Writing | None = None  # while it is written
    chosen: int | None = None  # a new token, by its place
    guess: Draft | None = None  # a next token that waits for the visitor's guess
    said: tuple[Step | None, str] = (None, "")  # about a guess, in the panel of its step
    edited: tuple[int, str] | None = None  # a prompt that was typed and undone, and where
    versions: dict[str, Writing] = field(default_factory=dict)  # side by side, by name
    loaded: str = ""  # the last model that wrote
    failed: str = ""  # one that wrote nothing, if the last run's did
    why: str = ""  # the line of the last run that failed

    @property
    def present(self) -> Draft | None:
        return self.drafts[self.at] if self.drafts else None

    def add(self, draft: Draft) -> None:
        """Makes it the present one; what was undone is gone, and the oldest beyond the bounds."""
        self.drafts = [*self.drafts[: self.at + 1], draft][-MOST_DRAFTS:]
        while len(self.drafts) > 2 and sum(len(d.steps) for d in self.drafts) > MOST_STEPS:
            del self.drafts[0]
        self.at, self.guess, self.edited = len(self.drafts) - 1, None, None

    def move(self, by: int) -> bool:
        """Undo (-1) or redo (1); whether there was one."""
        if not 0 <= self.at + by < len(self.drafts):
            return False
        self.at, self.chosen, self.guess = self.at + by, None, None
        return True

    @property
    def seen(self) -> Draft | None:
        """What is on the page now, while it is written too."""
        return self.live.draft() if self.live else self.present

    @property
    def panel(self) -> str:
        """The chosen token beside what else could have come, or the question about the next."""
        guess, seen, at = self.guess, self.seen, self.chosen
        if guess:
            return guess_html(guess.asked.tokenizer, guess.steps[guess.shown])
        if seen is None or at is None or at >= seen.shown:
            return HINT
        step, (of, said) = seen.steps[at], self.said
        return panel_html(seen.asked.tokenizer, step, at, said if step is of else "")
