"""Checks of calls before they are served: where they run, and what their verdicts come to."""
