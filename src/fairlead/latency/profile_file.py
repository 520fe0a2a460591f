"""Reads profiles from files: one TOML a GPU and model.

The shipped ones lie in `profiles/` and are written by `scripts/fit_profiles.py`.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from fairlead.latency.profile import Profile
from fairlead.latency.profile_text import parse_profile
from fairlead.model import ConfigError

_SHIPPED = Path(__file__).with_name("profiles")


def list_profiles() -> list[str]:
    """Names of the shipped profiles, in alphabetical order."""
    return sorted(path.stem for path in _SHIPPED.glob("*.toml"))


def load_profile(name_or_path: str | Path) -> Profile:
    """The shipped profile of that name, or the one in that file.

    What ends in `.toml` or has a folder in it is a file. Raises ConfigError.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml" or len(path.parts) > 1:
        return _read(path)
    return _shipped(str(name_or_path))


@lru_cache(maxsize=64)
def _shipped(name: str) -> Profile:
    names = list_profiles()
    if name not in names:
        near = get_close_matches(name, names, n=3, cutoff=0.4)
        which = f"nearest: {', '.join(near)}" if near else f"there are: {', '.join(names)}"
        raise ConfigError(
            f"no latency profile is named {name!r}; {which} (or give a path that ends in .toml)"
        )
    return _read(_SHIPPED / f"{name}.toml")


def _read(path: Path) -> Profile:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"cannot read the latency profile {str(path)!r}: {reason}") from None
    return parse_profile(text, str(path))
