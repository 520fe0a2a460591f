"""A check of one's own, see docs/how-to/checks.md."""

from fairlead.checks import Allow, CheckedCall, Refuse, Verdict


class Words:
    def __init__(self, words: list[str]) -> None:
        self.words = [word.casefold() for word in words]

    def check(self, call: CheckedCall) -> Verdict:
        said = " ".join(call.texts).casefold()
        found = any(word in said for word in self.words)
        return Refuse("it holds a word that is not wanted here") if found else Allow()
