"""The text that emulated instances say: one passage, read in an endless loop."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Final

from fairlead.text.tokenizer import Tokenizer

PASSAGE: Final = """\
The harbour wakes before the town does. While the windows on the hill are still dark, a lamp \
moves along the quay, and behind it comes the harbour master with her book. She writes down \
which boats came home in the night, which are still out, and which have lost a rope or a plank \
and will not sail today. Nobody asked her to keep such a book. She began it in her first winter, \
when two ships wanted the same place at the same hour, and she found that she could not tell \
which of them had been promised it.

At six the first fishermen come down the steps. They are in a hurry, for the market opens at \
nine, and a fish that comes at ten is worth half. So they go out first. The ferry may take its \
time until eight, but then it must leave to the minute, because people stand on the other shore \
and look at their watches. The barges with gravel do not care at all. They go when the channel \
is free, and on a calm day they carry more than all the others together. It took the harbour \
master some years to see that this was the whole of her work: not to move as many boats as she \
could, but to see that each one came in time for what it was meant to do.

Strangers think that the art lies in speed. They watch a pilot bring a long ship round the mole \
in one smooth curve, and they clap their hands. But the pilot knows that the curve was made an \
hour before, when somebody thought of the tide. Had the ship waited for ten minutes, the stream \
would have turned, and no skill would have helped. Most of what looks like skill on the water is \
a decision that was made early enough.

There is a ring of bronze on the bow of every boat here, worn bright on the inside. The rope \
that comes from the shore runs through it to the winch. It does no work that you could measure. \
It does not pull, and it does not hold. It only sees to it that the rope comes from the right \
side, that it does not rub on the wood, and that it does not cross another rope. Take it away, \
and within a week there is a frayed line, then a broken one, and then a boat across the channel \
and everybody shouting. The old sailors touch the ring when they step aboard. They say that it \
is for luck.

When a storm is coming the harbour fills from the wrong end. Boats that would have stayed out \
for days turn back all at once, and each of them believes that it is the only one. On such \
evenings the harbour master stands at the very tip of the mole with two flags. She does not let \
them in one by one, as they come. She looks at how deep each one lies in the water, how many \
people are on deck, and how well its captain keeps his place. A sound boat with a good anchor is \
sent to the lee of the island, and told plainly that it will be there until morning. Its captain \
may grumble, but he can cook his supper and go to sleep. It is worse, she says, to tell a man \
that his turn will come soon, ten times in a row.

Once, in such a night, the engine of the little mail boat failed in the middle of the entrance. \
There was no time to ask whose fault it was. Two others took its sacks and its one passenger on \
board, a rope was passed, and before the lamp on the mole had turned a hundred times the letters \
were on their way again. In the morning the people of the town opened their post and found \
nothing strange about it. The harbour master wrote one line into her book, and she was prouder \
of that line than of any other, because nobody else had noticed.

In summer the children sit on the wall and count the masts. They make bets on which boat will \
leave next, and they lose, for they choose the largest or the most beautiful one. Then they run \
to look into the book, which lies open on a barrel for everyone to read. It holds no secrets. It \
says who came, what they needed, what was promised to them, and whether the promise was kept. On \
the last page of every year there is a single number. It is not the number of boats. It is the \
number of those that came in time.

"""
"""Plain ASCII, written for this purpose."""


def passage_tokens(tokenizer: Tokenizer, seed: int, start: int, n: int) -> list[int]:
    """The `n` tokens at the output positions from `start` on, of a reading that begins somewhere
    in the passage, as `seed` tells. Equal arguments give equal tokens, on any machine."""
    tokens = _tokens_of_passage(tokenizer)
    begin = (_offset(seed, len(tokens)) + start) % len(tokens)
    turns = (begin + n) // len(tokens)
    return (tokens * (turns + 1))[begin : begin + n] if turns else tokens[begin : begin + n]


@lru_cache(maxsize=8)  # a process serves few models
def _tokens_of_passage(tokenizer: Tokenizer) -> list[int]:
    return [token for token in tokenizer.encode(PASSAGE) if token not in tokenizer.special_ids]


def _offset(seed: int, n_tokens: int) -> int:
    digest = blake2b(str(seed).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % n_tokens
