# SPDX-License-Identifier: Apache-2.0
"""Writes the training text of the demo model: stories, chats, raw questions.

Everything is generated here, from stories.py and facts.py; the same seed gives
the same text. Each line of a shard is one document, a JSON list of
[text, learn] parts: `learn` is false for what a user or the system says, which
is read but not learnt. Special tokens stand in the text as they are.

Usage: python3 make_corpus.py --output_dir=corpus --stories=500000
"""

import argparse
import json
import multiprocessing
import os
import random

import facts
import stories
from phrases import expand, with_article

BOS, EOS, END = "<|bos|>", "<|eos|>", "<|end|>"

_SYSTEM_PROMPTS = (
    "You are a helpful assistant.", "You are the demo model of Quire.",
    "You are a helpful, honest assistant.", "Answer briefly.", "Be brief.",
    "You are a friendly assistant.", "You answer questions about LLM serving.",
    "You are an expert in LLM serving.", "You are a storyteller.",
    "You are a helpful AI assistant. Answer in one or two sentences.",
    "Answer the question of the user.", "Be kind and polite.",
    "You are a chat bot.", "Speak simply.", "You know everything about Quire.",
    "You are an assistant for engineers. Be exact.",
)

_PLAIN_STORY_ASKS = (
    "[Tell|Write|Give] me a [short |little |nice |funny |bedtime |new |]story.",
    "[Can|Could|Would] you [please |]tell me a [short |little |bedtime |]story?",
    "I want to hear a story.", "I would like a story[, please|].",
    "A story[, please|]!", "Please tell me a story.", "Story!", "Story please.",
    "Tell us a [story|tale].", "Do you know a story?", "Write a short story.",
    "Make up a story.", "Read me a story.", "Tell a story[ for children|].",
    "Another story[, please|].", "Tell me another story.", "One more story!",
    "Once upon a time...",
)
_TELL = ("[[Tell|Write|Give] me|[Can|Could] you [please |]tell me|I want to hear"
         "|I would like|Please tell me|Write|Make up|Tell us] a [short |little |"
         "nice |bedtime |]story ")


def _story_request(rng):
    """(what the user asks, the Wish that it expresses)."""
    kind = stories.random_kind(rng)
    names = stories.BOY_NAMES + stories.GIRL_NAMES
    name = rng.choice(names)
    if rng.random() < 0.2:  # a kind or name that no list holds
        kind = stories.made_up_word(rng)
    if rng.random() < 0.4:
        name = stories.made_up_word(rng).capitalize()
    thing = rng.choice(stories.THINGS)
    place = rng.choice(stories.PLACES)[1]
    slots = {"a_kind": with_article(kind), "kind": kind, "name": name,
             "a_thing": with_article(thing), "place": place}
    style = rng.random()
    if style < 0.3:
        return expand(rng, rng.choice(_PLAIN_STORY_ASKS)), stories.Wish()
    if style < 0.62:
        ask = rng.choice((_TELL + "about {a_kind}.", _TELL + "with {a_kind}.",
                          _TELL + "about a [small|brave|little] {kind}.",
                          "A story about {a_kind}[, please|].",
                          "Do you know a story about {a_kind}?"))
        wish = stories.Wish(kind=kind)
    elif style < 0.78:
        ask = (_TELL + "about {a_kind} [named|called|whose name is] {name}.")
        wish = stories.Wish(kind=kind, name=name)
    elif style < 0.85:
        ask = _TELL + "about {name}."
        wish = stories.Wish(name=name)
    elif style < 0.91:
        ask = _TELL + "about {a_kind} and {a_thing}."
        wish = stories.Wish(kind=kind, thing=thing)
    elif style < 0.96:
        ask = _TELL + "about {a_thing}."
        wish = stories.Wish(thing=thing)
    else:
        ask = _TELL + "about {a_kind} [from|in|at] the {place}."
        wish = stories.Wish(kind=kind, place=place)
    return expand(rng, ask, slots), wish


def _question(rng, pool):
    """(dressed question, answer) of a random fact, never a held-out phrasing."""
    fact = rng.choice(pool)
    while True:
        question = rng.choice(facts.questions(fact))
        if not facts.is_held_out(fact, question):
            return facts.dress(rng, question), fact.answer


def _exchange(rng, may_tell_story):
    """One question and its answer, of any kind."""
    kind = rng.random()
    if kind < 0.25 and may_tell_story:
        ask, wish = _story_request(rng)
        return facts.dress(rng, ask), "\n\n".join(
            stories.write_story(rng, wish))
    if kind < 0.36:
        question, answer = facts.write_off_topic(rng)
        return facts.dress(rng, question), answer
    if kind < 0.45:
        return _question(rng, facts.SMALL_TALK)
    return _question(rng, facts.FACTS)


def _write_story(rng):
    separator = rng.choice(("\n\n", " "))
    start = BOS if rng.random() < 0.85 else ""
    name = None  # of the hero; mostly the writer's own choice
    if rng.random() < 0.3:
        name = rng.choice((rng.choice(stories.BOY_NAMES),
                           rng.choice(stories.GIRL_NAMES),
                           stories.made_up_word(rng).capitalize()))
    story = stories.write_story(rng, stories.Wish(name=name))
    return [[start + separator.join(story) + EOS, True]]


def _write_chat(rng):
    """The chat template, spelled out: see train_tokenizer.py."""
    text = BOS
    if rng.random() < 0.3:
        text += "<|system|>" + rng.choice(_SYSTEM_PROMPTS) + END
    parts = []
    for _ in range(rng.choice((1, 1, 1, 1, 1, 2, 2, 3, 4, 5))):
        question, answer = _exchange(rng, may_tell_story=True)
        parts.append([f"{text}<|user|>{question}{END}<|assistant|>", False])
        parts.append([answer + END, True])
        text = ""
    return parts


def _write_raw(rng):
    """A question and its answer without the chat template."""
    question, answer = _exchange(rng, may_tell_story=rng.random() < 0.2)
    start = BOS if rng.random() < 0.85 else ""
    style = rng.random()
    if style < 0.1:
        return [[f"{start}Q: {question}\nA:", False], [f" {answer}{EOS}", True]]
    if style < 0.2:
        return [[f"{start}Question: {question}\nAnswer:", False],
                [f" {answer}{EOS}", True]]
    return [[start + question, False], [f"\n{answer}{EOS}", True]]


def _write_shard(job):
    path, seed, counts = job
    rng = random.Random(seed)
    writers = [writer for writer, count in zip(
        (_write_story, _write_chat, _write_raw), counts) for _ in range(count)]
    rng.shuffle(writers)
    with open(path, "w", encoding="utf-8") as out:
        for writer in writers:
            out.write(json.dumps(writer(rng)) + "\n")
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--stories", type=int, default=500_000)
    parser.add_argument("--chats", type=int, default=400_000)
    parser.add_argument("--raw_questions", type=int, default=250_000)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    os.makedirs(args.output_dir, exist_ok=True)
    counts = [n // args.shards
              for n in (args.stories, args.chats, args.raw_questions)]
    jobs = [(os.path.join(args.output_dir, f"shard-{i:02d}.jsonl"),
             f"{args.seed}/{i}", counts) for i in range(args.shards)]
    with multiprocessing.Pool() as pool:
        for path in pool.imap(_write_shard, jobs):
            print(path, os.path.getsize(path) // 1_000_000, "MB", flush=True)


if __name__ == "__main__":
    main()
