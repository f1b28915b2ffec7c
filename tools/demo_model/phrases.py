# SPDX-License-Identifier: Apache-2.0
"""A tiny template language, shared by the story and the question writers.

A template is plain text with two extras:

    [a|b|c]   picks one of the alternatives (they may be empty, and may nest)
    {slot}    is replaced by slots["slot"]; a callable slot is called with rng

`expand(rng, text, slots)` returns one random reading; `expand_all(text)`
returns every reading of a template without slots.

Earlier alternatives are a little more likely than later ones (see `lean`), so
that the most likely text is well defined and greedy decoding reads well.
"""

import functools
import itertools
import re


def lean(rng, items):
    """One of the items; of four, with chances 34, 24, 21 and 20 percent."""
    return items[int(len(items) * rng.random() ** 1.3)]


@functools.lru_cache(maxsize=None)
def _parse(text):
    """Returns a tuple of parts: str, ("slot", name) or ("any", (parts, ...))."""
    parts, pos = _parse_parts(text, 0)
    if pos != len(text):
        raise ValueError(f"unbalanced ']' or '|' at {pos} in: {text}")
    return parts


def _parse_parts(text, pos):
    parts, literal = [], []

    def flush():
        if literal:
            parts.append("".join(literal))
            literal.clear()

    while pos < len(text) and text[pos] not in "|]":
        if text[pos] == "[":
            flush()
            options = []
            while True:
                option, pos = _parse_parts(text, pos + 1)
                options.append(option)
                if pos == len(text):
                    raise ValueError(f"missing ']' in: {text}")
                if text[pos] == "]":
                    break
            parts.append(("any", tuple(options)))
            pos += 1
        elif text[pos] == "{":
            flush()
            end = text.index("}", pos)
            parts.append(("slot", text[pos + 1 : end]))
            pos = end + 1
        else:
            literal.append(text[pos])
            pos += 1
    flush()
    return tuple(parts), pos


def _render(rng, parts, slots, out):
    for part in parts:
        if isinstance(part, str):
            out.append(part)
        elif part[0] == "any":
            _render(rng, lean(rng, part[1]), slots, out)
        else:
            value = slots[part[1]]
            out.append(value(rng) if callable(value) else value)


def expand(rng, text, slots=None):
    """One random reading of `text`. Raises KeyError for an unknown slot."""
    out = []
    _render(rng, _parse(text), slots or {}, out)
    return "".join(out)


def expand_all(text):
    """Every reading of `text`, in order. REQUIRES: no slots in `text`."""

    def readings(parts):
        choices = []
        for part in parts:
            if isinstance(part, str):
                choices.append([part])
            else:
                kind, options = part
                if kind != "any":
                    raise ValueError(f"slot in: {text}")
                choices.append([r for o in options for r in readings(o)])
        return ["".join(pieces) for pieces in itertools.product(*choices)]

    return readings(_parse(text))


# Where a sentence, or a quotation after a comma, begins. `!" said` and
# `?" asked` go on in lower case; `." ` always ends the sentence.
_SENTENCE_START = re.compile(r'(^"?|[.!?] "?|\." |, ")([a-z])')


def capitalize_sentences(text):
    """Upper-cases the first letter of each sentence and quotation."""
    return _SENTENCE_START.sub(lambda m: m[1] + m[2].upper(), text)


def with_article(noun):
    """`fox` -> `a fox`, `owl` -> `an owl`."""
    vowel = noun[0] in "aeiouAEIOU" and not noun.startswith(("uni", "use"))
    return ("an " if vowel else "a ") + noun
