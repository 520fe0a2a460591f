"""Personal data, found by Microsoft Presidio: extra `fairlead[checks]`.

Without a model only what has a form is found: e-mail addresses, cards, IBANs, phone numbers and the
like, by patterns and checksums. Names of people and places take a model of spaCy's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fairlead.checks.protocol import Allow, CheckedCall, Refuse, Verdict
from fairlead.model import ConfigError

FORMAL = ("EMAIL_ADDRESS", "CREDIT_CARD", "IBAN_CODE", "PHONE_NUMBER", "US_SSN", "CRYPTO")
ACTIONS = ("replace", "refuse")
Span = tuple[int, int, str]


class Presidio:
    """Puts `<EMAIL_ADDRESS>` and the like in the place of personal data, or refuses it."""

    def __init__(
        self,
        entities: Sequence[str] = FORMAL,
        action: str = "replace",
        language: str = "en",
        model: str = "",
        min_score: float = 0.4,
        allow_list: Sequence[str] = (),
    ) -> None:
        """`entities` are Presidio's names; `model` is a spaCy package that is installed;
        `min_score` is how sure Presidio must be, 0 to 1; `allow_list` is left as it is."""
        if action not in ACTIONS:
            raise ConfigError(f"action must be {' or '.join(ACTIONS)}, got {action!r}")
        self._refuses = action == "refuse"
        self._find = _finder(list(entities), language, model, min_score, list(allow_list))

    def check(self, call: CheckedCall) -> Verdict:
        if not self._refuses:
            return call.changed(lambda text: replaced(text, self._find(text)))
        kinds = {kind for text in call.texts for _, _, kind in self._find(text)}
        return Refuse(f"it holds {', '.join(sorted(kinds))}") if kinds else Allow()


def replaced(text: str, spans: Sequence[Span]) -> str:
    """The text with `<KIND>` for each span; of those that overlap, the first one given."""
    taken: list[Span] = []
    for span in spans:
        if all(span[1] <= start or end <= span[0] for start, end, _ in taken):
            taken.append(span)
    for start, end, kind in sorted(taken, reverse=True):
        text = f"{text[:start]}<{kind}>{text[end:]}"
    return text


def _finder(
    entities: list[str], language: str, model: str, min_score: float, allow_list: list[str]
) -> Callable[[str], list[Span]]:
    """What finds the spans of a text, surest and longest first. Raises `ConfigError`."""
    engine = _engine(language, model)
    unknown = set(entities) - set(engine.get_supported_entities(language))
    if unknown:
        known = ", ".join(sorted(engine.get_supported_entities(language)))
        said = ", ".join(sorted(unknown))
        raise ConfigError(f"entities: {said} cannot be found so; known are {known}")

    def find(text: str) -> list[Span]:
        found = engine.analyze(
            text,
            language,
            entities=entities,
            score_threshold=min_score,
            allow_list=allow_list or None,
        )
        found.sort(key=lambda one: (-one.score, one.start - one.end, one.start))
        return [(one.start, one.end, one.entity_type) for one in found]

    return find


def _engine(language: str, model: str) -> Any:
    try:
        import spacy.util
        import tldextract
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
        from presidio_analyzer.nlp_engine import NoOpNlpEngine, SpacyNlpEngine
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is missing: pip install 'fairlead[checks]'") from error
    # It would fetch the newest list of public suffixes; the one that it brings along will do.
    offline: Any = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    tldextract.extract = offline
    if model and not spacy.util.is_package(model):
        raise ConfigError(f"model {model!r} is not installed; python -m spacy download {model}")
    models = [{"lang_code": language, "model_name": model}]
    nlp = SpacyNlpEngine(models) if model else NoOpNlpEngine(models)
    nlp.load()
    registry = RecognizerRegistry(supported_languages=[language])
    registry.load_predefined_recognizers(languages=[language], nlp_engine=nlp)
    return AnalyzerEngine(registry=registry, nlp_engine=nlp, supported_languages=[language])
