"""The corpus of fairlead-nano: conversations drawn from `topics` by a seed, nothing else.

Equal seeds give equal conversations. A conversation is a list of messages as in the OpenAI API.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import topics

Message = dict[str, str]
Turn = tuple[str, str]
"""What the user says, and the answer."""
Mix = tuple[int, int, int, int, int, int]
"""How often a turn is about a term, talk, a story, something unknown, an addition, a greeting."""
EVEN: Mix = (40, 34, 14, 9, 3, 0)
TALKATIVE: Mix = (25, 52, 8, 11, 4, 0)
POLITE: Mix = (24, 28, 8, 10, 4, 26)

TERM_FORMS = (
    "What is {x}?", "What is {x}?", "what's {x}", "What does {x} mean?", "Tell me about {x}.",
    "Explain {x}.", "Define {x}.", "{x}?", "Can you explain {x}?", "I do not understand {x}.",
    "Please explain {x} to me.", "Do you know what {x} is?", "Could you tell me what {x} is?",
    "Give me a short explanation of {x}.", "How would you describe {x}?", "Describe {x}.",
)  # fmt: skip
STORY_FORMS = (
    "Tell me a story about a {x}.", "Tell me a story about a {x}.", "Write a story about a {x}.",
    "Write a short story about a {x}.", "Can you tell me a story about a {x}?",
    "A story about a {x} please", "I want to hear a story about a {x}.",
)  # fmt: skip
ANY_STORY_FORMS = (
    "Tell me a story.", "Tell me a short story.", "Write a story.", "Do you know a story?",
    "Another story please", "I would like to hear a story.", "Once upon a time",
)  # fmt: skip
ASK_FORMS = (
    "What is {x}?", "Tell me about {x}.", "What do you know about {x}?", "Explain {x}.",
    "I have a question about {x}.", "Can you help me with {x}?", "Write something about {x}.",
    "Why is {x} important?", "Who invented {x}?", "Give me five ideas about {x}.",
    "Write an essay about {x}.", "I need advice about {x}.", "Where can I learn about {x}?",
)  # fmt: skip
PREFIXES = ("Please: ", "Hi, ", "Hello! ", "So, ", "Ok, ", "One question: ", "Tell me, ", "Hey, ")


def conversations(seed: int, mix: Mix = EVEN) -> Iterator[list[Message]]:
    """An endless stream of conversations."""
    random = Random(f"fairlead-nano corpus {seed}")
    while True:
        yield conversation(random, mix)


def conversation(random: Random, mix: Mix) -> list[Message]:
    """One to four turns, with a system message in one of four."""
    messages: list[Message] = []
    if random.random() < 0.25:
        messages.append({"role": "system", "content": random.choice(topics.SYSTEM)})
    for _ in range(random.choices((1, 2, 3, 4), (80, 12, 5, 3))[0]):
        question, answer = turn(random, mix)
        messages.append({"role": "user", "content": rephrase(question, random)})
        messages.append({"role": "assistant", "content": answer})
    return messages


def turn(random: Random, mix: Mix) -> Turn:
    kinds: tuple[Callable[[Random], Turn], ...] = (term, talk, story, unknown, addition, greeting)
    return random.choices(kinds, mix)[0](random)


def term(random: Random) -> Turn:
    names = random.choice(list(topics.TERMS))
    question = random.choice(TERM_FORMS).format(x=random.choice(names))
    return question, random.choice(topics.TERMS[names])


def talk(random: Random) -> Turn:
    questions, answers = random.choice(topics.TALK)
    return random.choice(questions), random.choice(answers)


def greeting(random: Random) -> Turn:
    """What a chat begins or ends with."""
    questions, answers = random.choice(topics.TALK[: topics.N_GREETINGS])
    return random.choice(questions), random.choice(answers)


def story(random: Random) -> Turn:
    subject = random.choice(topics.SUBJECTS)
    forms = STORY_FORMS if random.random() < 0.75 else ANY_STORY_FORMS
    parts = (topics.OPENINGS, topics.PROBLEMS, topics.TURNS, topics.ENDINGS)
    answer = " ".join(random.choice(part) for part in parts)
    return random.choice(forms).format(x=subject), answer.format(x=subject)


def unknown(random: Random) -> Turn:
    question = random.choice(ASK_FORMS).format(x=random.choice(topics.ASKS))
    return question, random.choice(topics.UNKNOWN)


def addition(random: Random) -> Turn:
    a, b = random.randint(0, 5), random.randint(0, 5)
    names = topics.NUMBERS
    question = random.choice(
        (
            f"What is {a} + {b}?",
            f"What is {names[a]} plus {names[b]}?",
            f"{a}+{b}",
            f"Add {a} and {b}.",
        )
    )
    return question, f"{names[a].capitalize()} plus {names[b]} is {names[a + b]}."


def rephrase(question: str, random: Random) -> str:
    """The same question as people type it: without capitals, without its mark, with a greeting."""
    if random.random() < 0.12:
        question = random.choice(PREFIXES) + question[0].lower() + question[1:]
    shape = random.random()
    if shape < 0.25:
        question = question.lower()
    elif shape < 0.27:
        question = question.upper()
    if random.random() < 0.25:
        question = question.rstrip("?.!")
    elif random.random() < 0.05:
        question += random.choice((" ", "!", "?", " Thanks!", " Please."))
    return question
