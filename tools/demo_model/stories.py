# SPDX-License-Identifier: Apache-2.0
"""The story grammar: short children's stories, all of them made here.

A story fixes its cast first (hero, friend, thing, places, weather) and then
walks through the beats of one plot; every beat picks one of several
paraphrases. So the same hero, thing and place run through the whole story,
and pronouns agree with them.

`write_story(rng, wish)` returns one story as a list of paragraphs. A wish fixes
parts of the cast, e.g. `Wish(kind="fox", name="Pip")`.
"""

import dataclasses
import random
from typing import Optional

from phrases import capitalize_sentences, expand, lean, with_article

LAND_ANIMALS = """fox rabbit bear mouse owl hedgehog squirrel badger otter
beaver deer wolf frog toad duck goose hen cat kitten dog puppy lamb goat pony
donkey pig cow calf mole raccoon turtle tortoise snail sparrow robin crow swan
heron lion tiger elephant monkey giraffe zebra hippo camel panda koala kangaroo
penguin lizard hamster bee ant butterfly spider bat bunny parrot peacock moose
llama horse sheep chicken rooster bird bug beetle ladybird firefly cricket
chipmunk weasel lynx leopard gorilla ostrich flamingo pigeon magpie raven eagle
hawk mammoth dinosaur""".split()
SEA_ANIMALS = """fish whale dolphin octopus crab seal seahorse shark starfish
jellyfish walrus""".split()
FANTASY = """dragon unicorn robot wizard witch fairy giant elf dwarf goblin
troll ghost snowman mermaid""".split()
PEOPLE = """farmer baker miller sailor pirate knight tailor gardener fisher
teacher painter shepherd carpenter clockmaker potter weaver doctor programmer
engineer cook soldier miner librarian astronaut child""".split()
BOYS = ["boy", "prince", "king"]
GIRLS = ["girl", "princess", "queen"]

BOY_NAMES = """Pip Tom Ben Max Leo Finn Otto Milo Hugo Felix Oscar Theo Sam
Jack Noah Rufus Toby Basil Bruno Casper Edgar Fergus Gus Henry Ivan Jasper
Karl Louis Moss Ned Olaf Percy Quentin Rollo Sven Tim Victor Walter Yuri
Ziggy Alfie Barnaby""".split()
GIRL_NAMES = """Lily Mia Anna Rosa Ella Nora Ruby Hazel Ivy Luna Daisy Clara
Emma Zoe Tilly Wren Poppy Maya Olive Pearl Willow Bella Cora Dora Edith Fern
Greta Hilda Iris Juno Kira Lotte Mabel Nell Oona Petra Queenie Sally Tess Una
Vera Winnie""".split()

ADJECTIVES = """little small young brave curious kind clever cheerful quiet
shy gentle lively hopeful patient careful friendly merry sleepy hungry
stubborn proud lonely playful funny busy""".split()
GOOD_TRAITS = """brave kind clever patient honest gentle careful generous
cheerful strong wise helpful""".split()
COLORS = """red blue green yellow golden silver purple white black orange
striped shiny""".split()
THINGS = """kite ball hat scarf lantern drum bell book key map boat basket
button coin feather flute whistle blanket cup teapot compass ring necklace
lamp umbrella wagon spoon bucket mirror box clock boot mitten marble ribbon
pebble acorn shell rope brush pencil violin doll crown backpack""".split()
SEA_THINGS = "pearl shell coin bell ring button marble crown pebble".split()

# Places take the preposition before them: in the forest, by the river.
PLACES = [
    ("in", "forest"), ("by", "river"), ("on", "hill"), ("in", "meadow"),
    ("in", "valley"), ("by", "lake"), ("in", "garden"), ("at", "market"),
    ("by", "pond"), ("on", "farm"), ("in", "village"), ("in", "orchard"),
    ("by", "sea"), ("on", "beach"), ("in", "cave"), ("at", "mill"),
    ("in", "old barn"), ("by", "bridge"), ("on", "mountain"), ("in", "woods"),
    ("by", "waterfall"), ("in", "tall grass"), ("by", "old well"),
    ("at", "castle"), ("in", "snowy field"), ("on", "island"),
    ("by", "lighthouse"), ("in", "little town"),
]
SEA_PLACES = [
    ("by", "coral reef"), ("in", "sandy bay"), ("in", "deep blue water"),
    ("in", "kelp forest"), ("by", "old shipwreck"), ("in", "quiet lagoon"),
    ("under", "great rock"), ("by", "island"),
]
HOMES = ["[small|tiny|cosy|little|warm] [house|home|cottage|hut]",
         "[round|crooked|pretty|tidy] little [house|home|cottage]"]
SKIES = {
    "sunny": "[the sun was [warm|bright] and the sky was blue|"
             "the sun shone [brightly|over everything]|"
             "there was not one cloud in the sky]",
    "windy": "[the wind blew [hard|all day long]|"
             "the wind shook the [leaves|branches]|"
             "the clouds raced across the sky]",
    "rainy": "[the rain fell softly|rain drops danced on the ground|"
             "the sky was grey and everything was wet]",
    "snowy": "[snow covered the ground|white snow lay on everything|"
             "soft snow fell from the sky]",
    "foggy": "[a thick fog hid everything|the fog was as white as milk|"
             "nobody could see far]",
    "cold": "[the air was cold and clear|there was ice on the puddles|"
            "everyone could see their own breath]",
}
FOODS = """soup bread pie cake porridge jam pudding stew rice
salad""".split()
INGREDIENTS = """honey flour milk carrots apples berries butter salt nuts
mushrooms pumpkin cheese onions cinnamon""".split()
SKILLS = [
    ("swim", "swimming"), ("sing", "singing"), ("dance", "dancing"),
    ("whistle", "whistling"), ("read", "reading"), ("skate", "skating"),
    ("juggle", "juggling"), ("paint", "painting"), ("bake", "baking"),
    ("climb", "climbing"), ("play the flute", "playing the flute"),
    ("tie knots", "tying knots"), ("tell jokes", "telling jokes"),
]
FEARS = [
    ("the dark", "the dark"), ("thunder", "the thunder"),
    ("deep water", "the deep water"), ("high places", "the height"),
    ("strangers", "the stranger"), ("the old bridge", "the old bridge"),
]

_CONSONANTS = """b c d f g h j k l m n p r s t v w z b d g k l m n p r s t z br
dr fl gr kl pl sn tr sh ch th rb nd lm st rt qu""".split()
_VOWELS = "a e i o u a e i o u oo ee ai y".split()


def made_up_word(rng):
    """A word nobody has seen, so that the model learns to copy what it reads."""
    word = ""
    for _ in range(rng.choice((2, 2, 3))):
        word += rng.choice(_CONSONANTS) + rng.choice(_VOWELS)
    if rng.random() < 0.2:
        word = rng.choice("aeiou") + word
    return word + rng.choice(("", "", "", "n", "x", "t", "ck", "l", "s", "ra"))


@dataclasses.dataclass(frozen=True)
class Wish:
    """What the reader asked for; None leaves the choice to the writer."""

    kind: Optional[str] = None  # "fox"
    name: Optional[str] = None  # "Pip"
    thing: Optional[str] = None  # "kite"
    place: Optional[str] = None  # "forest", a name in PLACES


def _genders(kind):
    if kind in BOYS:
        return ("boy",)
    if kind in GIRLS or kind in ("mermaid", "hen", "cow", "fairy", "witch"):
        return ("girl",)
    if kind in ("rooster", "wizard"):
        return ("boy",)
    return ("boy", "girl")


def random_kind(rng):
    """A hero's kind, animals more often than people."""
    groups = (LAND_ANIMALS, SEA_ANIMALS, FANTASY, PEOPLE, BOYS + GIRLS)
    return lean(rng, rng.choices(groups, weights=(60, 6, 10, 12, 12))[0])


def _one_of_three(items, part):
    """Every third item, from `part` in [0, 3) on.

    The three characters of a story, and its three places, come from pools
    without a common member, so that a reader (or a small model) never mixes
    them up.
    """
    return items[part::3]


class _Story:
    """The cast as template slots, and the text written so far."""

    def __init__(self, rng, wish):
        self.rng = rng
        self.paragraphs = [[]]
        self.slots = {}
        self._cast(wish)

    # -- cast ---------------------------------------------------------------

    def _cast(self, wish):
        rng, s = self.rng, self.slots
        kind = wish.kind or random_kind(rng)
        self.at_sea = kind in SEA_ANIMALS
        used_names = set()
        animals = SEA_ANIMALS if self.at_sea else LAND_ANIMALS
        self._person(0, kind, used_names, wish.name)
        for part in (1, 2):
            pool = [k for k in _one_of_three(animals, part) if k != kind]
            self._person(part, lean(rng, pool), used_names)

        s["adj"] = lean(rng, ADJECTIVES[0::2])
        s["adj2"] = lean(rng, ADJECTIVES[1::2])
        s["an_adj"] = with_article(s["adj"])
        s["trait"] = lean(rng, GOOD_TRAITS)
        s["old"] = lean(rng, ("old", "wise old", "kind old", "wise", "kind"))

        thing = wish.thing or lean(rng, SEA_THINGS if self.at_sea else THINGS)
        color = lean(rng, COLORS)
        s["thing"], s["color"] = thing, color
        s["a_thing"] = with_article(f"{color} {thing}")
        s["the_thing"] = lambda r: (
            f"the {thing}" if r.random() < 0.7 else f"the {color} {thing}")
        s["his_thing"] = lambda r: f"{s['his']} " + (
            thing if r.random() < 0.7 else f"{color} {thing}")

        places = SEA_PLACES if self.at_sea else PLACES
        for part, prefix in enumerate(("", "p2", "p3")):
            pool = [p for p in _one_of_three(places, part)
                    if p[1] != wish.place]
            if part == 0 and wish.place:
                pool = [p for p in PLACES if p[1] == wish.place]
            preposition, place = lean(rng, pool)
            s[prefix + "place"] = f"the {place}"
            s[prefix + "in_place"] = f"{preposition} the {place}"

        weather = "sunny" if self.at_sea else lean(rng, tuple(SKIES))
        s["weather"] = weather
        s["sky"] = lambda r: expand(r, SKIES[weather])
        s["a_home"] = lambda r: with_article(expand(r, lean(r, HOMES)))
        go = (("swim", "swam", "swimming") if self.at_sea
              else lean(rng, (("walk", "walked", "walking"),
                              ("run", "ran", "running"),
                              ("hurry", "hurried", "hurrying"),
                              ("go", "went", "going"))))
        s["go"], s["went"], s["going"] = go
        s["food"] = lean(rng, FOODS)
        s["item"] = lean(rng, INGREDIENTS[0::2])
        s["item2"] = lean(rng, INGREDIENTS[1::2])
        s["skill"], s["skilling"] = lean(rng, SKILLS)
        s["fear"], s["feared"] = lean(rng, FEARS)

    def _person(self, part, kind, used_names, name=None):
        """Slots of one character: hero, friend ("f") or third one ("t")."""
        rng, s = self.rng, self.slots
        prefix = ("", "f", "t")[part]
        gender = lean(rng, _genders(kind))
        pool = _one_of_three(BOY_NAMES if gender == "boy" else GIRL_NAMES,
                             part)
        if name in GIRL_NAMES and "girl" in _genders(kind):
            gender = "girl"
        elif name in BOY_NAMES and "boy" in _genders(kind):
            gender = "boy"
        if name is None:
            name = lean(rng, [n for n in pool if n not in used_names])
        used_names.add(name)
        he, him, his = (("he", "him", "his") if gender == "boy"
                        else ("she", "her", "her"))
        s[prefix + "N"] = name
        s[prefix + "kind"] = kind
        s[prefix + "a_kind"] = with_article(kind)
        s[prefix + "he"], s[prefix + "him"], s[prefix + "his"] = he, him, his
        s[prefix + "himself"] = "himself" if gender == "boy" else "herself"
        s[prefix + "who"] = lambda r: (
            name if r.random() < 0.72 else f"the {kind}")

    # -- text ---------------------------------------------------------------

    def add(self, *paraphrases):
        """Writes one of the paraphrases."""
        text = expand(self.rng, lean(self.rng, paraphrases), self.slots)
        self.paragraphs[-1].append(capitalize_sentences(text))

    def maybe(self, chance, *paraphrases):
        """Writes one of the paraphrases, with the given chance."""
        if self.rng.random() < chance:
            self.add(*paraphrases)

    def new_paragraph(self):
        if self.paragraphs[-1]:
            self.paragraphs.append([])


# -- beats that every plot shares -------------------------------------------


def _opening(s):
    who = "[{an_adj} {kind}|{a_kind}]"
    s.add(
        # Weighted by repetition: most stories begin in the classic way.
        *[f"once upon a time, there was {who} named {{N}}.",
          f"once upon a time, there was {who} called {{N}}.",
          f"once upon a time, {who} named {{N}} lived {{in_place}}.",
          "once upon a time, {in_place}, there lived [{an_adj} {kind}|{a_kind}]"
          " named {N}.",
          f"once upon a time there was {who}. {{his}} name was {{N}}.",
          f"once upon a time there lived {who} [named|called] {{N}}.",
          ] * 3,
        f"long ago, {{in_place}}, there lived {who} named {{N}}.",
        f"there was once {who} [named|called] {{N}}.",
        f"in {{a_home}} {{in_place}} lived {who} named {{N}}.",
        f"one {{weather}} morning, {who} named {{N}} woke up early.",
        "{N} was {an_adj} {kind} who lived {in_place}.",
        "the {adj} {kind} was called {N}, and everyone {in_place} knew {him}.",
        f"many years ago, {who} named {{N}} lived {{in_place}}.",
        "this is the story of {N} the {kind}.",
        "have you heard of {N} the {kind}? {he} lived {in_place}.",
        f"not so long ago, there was {who} [named|called] {{N}}.",
        "everyone {in_place} knew {N}, the {adj} {kind}.",
        f"far away, {{in_place}}, lived {who} called {{N}}.",
    )
    s.maybe(
        0.6,
        "{N} lived in {a_home} {in_place}.",
        "{he} lived in {a_home}[ with {his} [family|mother|grandmother]|].",
        "{his} home was {a_home} {in_place}.",
        "{he} was [very|always|often] {adj2}.",
        "everybody liked {N}, because {he} was so {adj2}.",
        "{N} was {adj2}, [and|but] {he} had a good heart.",
        "every morning, {N} {went} to {place} [and back|before breakfast|"
        "to see {his} friends].",
        "{N} liked [songs|long walks|warm tea|stars|stories|jokes] more than "
        "[anything else|anything in the world].",
    )


def _weather(s, chance=0.6):
    s.maybe(
        chance,
        "[that day|that morning|on that day], {sky}.",
        "outside, {sky}.",
        "{sky}[, and the whole world seemed to wait|].",
        "{sky}, and {N} [felt happy|hummed a song|was wide awake].",
    )


def _meet_friend(s):
    """The hero meets the friend, by name."""
    s.add(
        "on the way, {he} met {fa_kind} named {fN}.",
        "soon {he} met {fN}, {fa_kind} [with bright eyes|with a kind smile|"
        "from {p2place}].",
        "{p2in_place}, {N} met {fN} the {fkind}.",
        "just then, {fN} the {fkind} came by.",
        "there {he} saw {fa_kind}. {fhis} name was {fN}.",
        "then {old} {fN} the {fkind} [looked up|came along|stopped to listen].",
    )


def _ask_trouble(s):
    s.add(
        '"what is [wrong|the matter]?" asked {fwho}.',
        '"why do you look so sad, {N}?" asked {fwho}.',
        '"hello, {N}," said {fwho}. "you look worried."',
        '{fwho} asked, "[can I help you|what happened|are you all right]?"',
        '"good morning," said {fwho}. "what are you doing here?"',
    )


def _thanks(s):
    s.add(
        '"thank you, {fN}!" said {N}. "you are a [good|true|real] friend."',
        '"thank you so much," said {N}. "I will never forget this."',
        '{N} hugged {fN} and said, "thank you, my friend."',
        '"how can I thank you?" asked {N}. "[you already did|just be my '
        'friend|come and have tea with me]," said {fN}.',
        "{N} thanked {fN} [again and again|with all {his} heart|with a hug].",
        '"I could not have done it without you," said {N}. {fN} smiled.',
    )


def _detour(s):
    """A small scene that changes nothing, as children's stories have them."""
    s.maybe(
        0.3,
        "on the way, they [passed|saw] {tN} the {tkind}, who [waved|sang|"
        'laughed]. "[good luck|good morning|hello], {N}!" called {tN}.',
        "a [bird|butterfly|bee] sat down on {his_thing} and looked at {him}.",
        '"do you hear that?" asked {fN}. it was only [the wind|a frog|an old '
        "door].",
        "{N} looked up. [a cloud looked like {fa_kind}|the moon was out "
        "already|a leaf came slowly down].",
        '"are you hungry?" asked {fN}. they shared some {food} and talked for '
        "a while.",
        "{fN} told a funny story about {ta_kind} and a hat, and {N} "
        "laughed until {he} cried.",
    )


def _ending(s, moral):
    if len(s.paragraphs) > 2:
        _detour(s)
    s.new_paragraph()
    s.maybe(
        0.55,
        "[that evening|when the sun went down|that night], {N} and {fN} "
        "[sat together|shared some {food}|sang a song|watched the stars] "
        "{in_place}.",
        "{N} {went} home with a [big smile|light heart|happy song].",
        "[at home|that night], {N} told {his} family all about it.",
        "they [laughed|talked|danced] until the [moon came up|stars came out].",
        "that night, {N} slept [very well|deeply|like a stone] in {his} "
        "[warm|soft|little] bed.",
    )
    s.add(*moral)
    s.maybe(
        0.5,
        "from that day on, {N} and {fN} were the best of friends.",
        "and they lived happily ever after.",
        "the end.",
        "and if you go to {place} today, you may still [see|hear|meet] them.",
        "and {N} was happy.",
        "and everyone {in_place} still tells this story.",
    )


# -- plots ------------------------------------------------------------------


def _plot_lost_thing(s):
    s.add(
        "{who} had {a_thing}, and {he} loved it [very much|more than anything].",
        "{his} [favourite|best] thing in the world was {a_thing}.",
        "{who} owned only one [special|fine] thing: {a_thing}.",
        "for {his} birthday, {N} got {a_thing} from {his} grandmother.",
    )
    s.maybe(0.5, "{he} took it everywhere.",
            "every night, {he} put it next to {his} bed.",
            "{he} showed it to all {his} friends.")
    s.new_paragraph()
    _weather(s)
    s.add(
        "one day, {the_thing} was gone.",
        "but one [day|morning], {N} could not find {his_thing}.",
        "then something bad happened: {N} lost {his_thing} {in_place}.",
        "one afternoon, {N} {went} to {place}, and when {he} came home, "
        "{the_thing} was gone.",
    )
    s.add(
        "{he} looked under the bed, behind the door and in every corner.",
        "{who} looked [here and there|everywhere], but {he} could not find it.",
        "{he} looked and looked until {he} was tired.",
        '"oh no! where is my {thing}?" cried {N}.',
        '"my {thing}! I have lost my {thing}!" {he} cried.',
    )
    s.maybe(0.5, "a tear ran down {his} [face|cheek].",
            "{who} felt very sad.", "{his} heart was heavy.",
            "{he} did not want to go home without it.")
    s.new_paragraph()
    _meet_friend(s)
    _ask_trouble(s)
    s.add(
        '"I lost my {color} {thing}," said {N}.',
        '"my {thing} is gone, and I cannot find it," {N} [said|answered].',
        '"have you seen {a_thing}?" asked {N}.',
        '{N} said, "I had {a_thing}, and now it is gone."',
    )
    s.add(
        '"let us look for it together," said {fwho}.',
        '"do not be sad," said {fwho}. "four eyes see more than two."',
        '"where did you have it last?" asked {fN}. "{p3in_place}," said {N}.',
        '"I will help you," said {fwho}. "come with me."',
    )
    s.maybe(
        0.5,
        "they asked {tN} the {tkind}, but {the} had not seen it.",
        "first they looked {p2in_place}, but {the_thing} was not there.",
        "on the way they met {tN} the {tkind}. \"I saw something {color} "
        '{p3in_place}," said {tN}.',
    )
    s.add(
        "they {went} to {p3place}, and there it was! {the_thing} lay [on the "
        "ground|behind a stone|under a leaf].",
        "at last, {p3in_place}, {fN} saw something {color}. it was {the_thing}!",
        "{fN} looked behind a big stone {p3in_place}. there was {the_thing}!",
        "when they came to {p3place}, {N} [gave a shout|jumped for joy]. "
        "{his_thing} was right there.",
    )
    _thanks(s)
    _ending(s, (
        "{who} never lost {the_thing} again.",
        "from then on, {N} took better care of {his_thing}.",
        "{who} learned that a friend is worth more than any {thing}.",
        "{who} knew that lost things are easier to find with a friend.",
    ))


def _plot_journey(s):
    s.add(
        "{who} had never seen {p3place}, and {he} dreamed about it every night.",
        "more than anything, {N} wanted to see {p3place}.",
        "{who} had one big wish: to go to {p3place}.",
        "{who} had heard many stories about {p3place} and wanted to go there.",
    )
    s.maybe(
        0.6,
        '"it is [too far|a long way]," said {his} [mother|father|grandmother].'
        ' "I will be careful," said {N}.',
        '"one day I will go there," {he} said to {himself}.',
        "nobody {in_place} had ever been there.",
        '"only the {trait} can go so far," said the others.',
    )
    s.new_paragraph()
    s.add(
        "one {weather} morning, {N} took {a_thing} and some {food} and set off.",
        "so one day {he} packed {a_thing} and said goodbye.",
        "on a {weather} day, {N} left home with {a_thing} in {his} bag.",
        "early one morning, {N} put {a_thing} in {his} bag and left.",
    )
    _weather(s, 0.4)
    s.add(
        "[soon|after an hour|before long], {he} came to a [wide|fast|deep] "
        "[river|stream], and there was no bridge.",
        "after a while, a fallen tree lay across the path.",
        "then the path split in two, and {N} did not know which way to go.",
        "but then a big stone blocked the way.",
        "soon {he} was lost among the trees.",
    ) if not s.at_sea else s.add(
        "soon a strong current pushed {him} back.",
        "but then a big old net blocked the way.",
        "soon the water grew dark, and {N} did not know the way.",
    )
    s.maybe(0.5, '"what shall I do now?" said {N}.',
            "{who} sat down and thought about it.",
            '"I will not give up," said {N}.',
            "{he} tried once, and {he} tried again, but it did not work.")
    s.new_paragraph()
    _meet_friend(s)
    s.add(
        '"where are you {going}, {N}?" asked {fwho}. "to {p3place}," said {N}.',
        '"are you lost?" asked {fwho}. "I want to see {p3place}," said {N}. '
        '"but I cannot go on."',
        '"I can show you the way," said {fwho}. "[I know it well|I have been '
        'there before|it is not far]."',
    )
    s.add(
        "{fwho} knew [another way|a secret path|a safe place to cross], and "
        "they went on together.",
        "{who} gave {fN} some {food}, and {fN} showed {him} [the way|a path].",
        "together they [worked hard|pushed and pulled], and soon the way was "
        "free.",
        '{fwho} said, "follow me," and they went on side by side.',
        "with the {thing} and a little luck, they found the way.",
    )
    s.maybe(0.5, "they told each other [jokes|stories|riddles] as they went.",
            "the way was long, but it is shorter with a friend.",
            "at night they slept under the stars.",
            "once {N} wanted to turn back, but {fN} cheered {him} up.")
    s.add(
        "at last they came to {p3place}. it was more beautiful than any dream.",
        "on the [second|third] day, they saw {p3place} in front of them.",
        "and then, there it was: {p3place}, [bright|quiet|wide] and lovely.",
        "when they reached {p3place}, {N} could not say a word.",
    )
    s.add(
        '"it was worth every step," said {N}.',
        '"we did it!" [cried|shouted] {N}.',
        '"look, {fN}," said {N}. "we are really here."',
        "{who} laughed and danced, and {fN} danced too.",
    )
    _ending(s, (
        "{who} learned that the best part of a journey is a good friend.",
        "{who} kept {the_thing} to remember that day.",
        "now {N} knew that even a long way begins with one small step.",
        "{who} knew that {he} could go anywhere if {he} did not give up.",
    ))


def _plot_cooking(s):
    s.add(
        "{who} loved to cook, and {his} {food} was famous {in_place}.",
        "one day, {N} wanted to make {food} for {his} friends.",
        "it was {his} grandmother's birthday, and {N} wanted to make {food}.",
        "{who} was hungry and thought of warm {food}.",
    )
    _weather(s)
    s.add(
        "but when {he} looked in the kitchen, {he} found no {item} and no "
        "{item2}.",
        "{he} opened the cupboard, but {he} saw no {item} and no {item2}.",
        '"oh dear," said {N}. "I have no {item} and no {item2}."',
    )
    s.new_paragraph()
    s.add(
        "so {N} {went} to {p2place}, where {fN} the {fkind} lived.",
        "{he} {went} to {fN} the {fkind}, who lived {p2in_place}.",
    )
    s.add(
        '"do you have some {item}?" asked {N}.',
        '"good morning, {fN}," said {N}. "may I have some {item}?"',
        '"please, can you give me some {item}?" {he} asked.',
    )
    s.add(
        '"yes," said {fwho}. "but I need help with my {thing} first."',
        '"of course," said {fN}. "but first, help me to mend my {thing}."',
        '"I do," said {fwho}. "will you help me to carry this {thing}?"',
    )
    s.add(
        "{who} was glad to help, and soon the work was done.",
        "{who} worked hard, and {fN} gave {him} the {item}.",
        "{who} helped {fhim} until the {thing} was [ready|in its place|as good as "
        "new].",
    )
    s.new_paragraph()
    s.add(
        "next, {N} {went} to {p3place} to see {tN} the {tkind}.",
        "then {he} {went} to {tN} the {tkind}, who lived {p3in_place}.",
    )
    s.add(
        '"I have plenty of {item2}," said {tN}. "take what you need."',
        '"take some {item2}," said {tN}. "but save me some {food}!"',
        '{tN} laughed and said, "you can have my {item2}. I love {food}."',
    )
    s.new_paragraph()
    s.add(
        "back at home, {N} mixed, stirred and waited.",
        "{who} {went} home and began to cook.",
        "in the kitchen, {N} put everything into a big pot.",
    )
    s.add(
        "soon the whole house smelled of {food}.",
        "when the {food} was ready, {N} called {his} friends.",
        "it was the best {food} {he} had ever made.",
    )
    s.add(
        "{fN} and {tN} came, and they all ate together.",
        "{fN} came with {a_thing}, and {tN} came with a song.",
        "{who} shared it with {fN} and {tN}, and nobody stayed hungry.",
    )
    s.maybe(0.6, '"this is the best {food} in the world!" said {fN}.',
            '"may I have some more?" asked {tN}.',
            '"next time, I will cook for you," said {fN}.')
    _ending(s, (
        "{who} learned that food tastes better when it is shared.",
        "everyone had given a little, and together they had a feast.",
        "since then, they have cooked together every week.",
        "{N} knew that good friends are the best part of every meal.",
    ))


def _plot_fear(s):
    s.add(
        "{who} was afraid of {fear}.",
        "there was only one problem: {N} was very afraid of {fear}.",
        "{who} was not afraid of much, but {he} was afraid of {fear}.",
        "nobody knew that {N} was afraid of {fear}.",
    )
    s.maybe(0.7, "{his} knees shook when {he} only thought about it.",
            "{he} never told anyone, because {he} was ashamed.",
            "the others laughed at {him}, and that made {N} sad.",
            '"I am just not brave," {he} thought.')
    s.new_paragraph()
    s.add(
        "one {weather} [day|evening|afternoon], {his} friend {fN} the {fkind} "
        "did not come home.",
        "one [day|evening], {N} heard a cry for help. it was {fN} the {fkind}!",
        "then, one {weather} [day|evening], {fN} the {fkind} was in trouble.",
    )
    s.add(
        "{fN} was {p2in_place}, all alone, and {fhis} foot was caught.",
        "{fhe} had fallen into a hole {p2in_place} and could not get out.",
        "{fhe} sat {p2in_place} and did not know the way home.",
        "{fhe} had lost {fhis} {thing} {p2in_place} and was too tired to move.",
    )
    s.add(
        "{who} had to face {feared} to reach {fhim}.",
        "between {N} and {fN} there was only one thing: {feared}.",
        "to get there, {N} had to be stronger than {feared}.",
    )
    s.new_paragraph()
    s.add(
        "{his} heart beat like a drum.",
        "{who} shook all over, and {he} almost turned back.",
        "{he} took a deep breath and closed {his} eyes.",
    )
    s.add(
        '"my friend needs me," said {N}. "I can do this."',
        '"one step, and then one more," {he} said to {himself}.',
        '"I am afraid," {he} whispered. "but {fN} is more afraid than I am."',
        "then {he} thought of {fN}, and {he} took one step, and then another.",
    )
    s.maybe(0.5, "{he} sang a little song to feel better.",
            "it was hard, but {he} did not stop.",
            "{he} held {his_thing} tightly in {his} hand.",
            "step by step, the fear grew smaller.")
    s.add(
        '"{fN}! I am here!" called {N} at last.',
        "and then {he} saw {fN}, and {he} forgot {his} fear.",
        "when {he} reached {fN}, {fhe} could hardly believe it.",
    )
    s.add(
        "{who} helped {fhim} up, and together they {went} home.",
        "{who} pulled with all {his} strength, and {fN} was free.",
        "slowly and carefully, {N} brought {fN} home.",
    )
    s.add(
        '"you are the bravest {kind} I know," said {fN}.',
        '"you came for me!" said {fN}. "you are so brave."',
        '"were you not afraid?" asked {fN}. "yes," said {N}. "but I came '
        'anyway."',
        '"thank you, {N}," said {fN}. "I knew that you would come."',
    )
    _ending(s, (
        "{who} learned that being brave does not mean having no fear.",
        "after that, {fear} did not look so terrible any more.",
        "{who} was still a little afraid of {fear}, but now {he} knew what to "
        "do.",
        "now {N} knew that love is stronger than fear.",
    ))


def _plot_quarrel(s):
    s.add(
        "{his} best friend was {fa_kind} named {fN}, and they played together "
        "every day.",
        "{N} and {fN} the {fkind} were friends, and they did everything "
        "together.",
        "next door lived {fN} the {fkind}, {his} best friend.",
    )
    _weather(s)
    s.new_paragraph()
    s.add(
        "one day, they found {a_thing} {p2in_place}.",
        "one {weather} day, {p2in_place}, they both saw {a_thing}.",
        "one morning, {a_thing} lay in the grass {p2in_place}.",
    ) if not s.at_sea else s.add(
        "one day, they found {a_thing} {p2in_place}.")
    s.add(
        '"it is mine!" said {N}. "no, it is mine!" said {fN}.',
        '"I saw it first!" cried {fN}. "no, I did!" cried {N}.',
        'both of them wanted it. "give it to me!" shouted {N}.',
    )
    s.add(
        "they pulled and pulled, until {the_thing} fell into the mud.",
        "they argued all afternoon, and then each went home alone.",
        "{who} took {the_thing} and {went} home without a word.",
        "{fN} took {the_thing}, and {N} turned away.",
    )
    s.new_paragraph()
    s.add(
        "that night, {N} could not sleep.",
        "at home, {the_thing} was on {his} mind, but {fN} was too.",
        "the next day was long and quiet, and {N} felt lonely.",
        "without {fN}, nothing was any fun.",
    )
    s.add(
        '"what good is {a_thing} without a friend?" {he} thought.',
        '"I miss {fN}," said {N}.',
        "{he} told {old} {tN} the {tkind} about it. \"a {thing} cannot laugh "
        'with you," said {tN}.',
        "{tN} the {tkind} came by and asked, \"which do you love more, the "
        '{thing} or your friend?"',
    )
    s.new_paragraph()
    s.add(
        "in the morning, {N} {went} straight to {fN}.",
        "so {he} got up early and {went} to see {fN}.",
        "half way to {fN}, {N} saw {fhim} coming the other way.",
    )
    s.add(
        '"I am sorry," said {N}. "I am sorry too," said {fN}.',
        '"please forgive me, {fN}," said {N}. "you mean more to me than any '
        '{thing}."',
        'both of them said at the same time, "I am sorry!" and then they '
        "laughed.",
    )
    s.add(
        '"we can share it," said {fN}. "one day you, one day me."',
        '"let us use the {thing} together," said {N}.',
        "they decided to give {the_thing} to {tN} the {tkind}, who had none.",
        "they cleaned {the_thing} and played with it together.",
    )
    _ending(s, (
        "{who} learned that sharing is better than winning.",
        "they never fought about {a_thing} again.",
        "a friend, {N} knew now, is worth more than [gold|any {thing}].",
        "the {thing} got old, but their friendship did not.",
    ))


def _plot_rescue(s):
    s.add(
        "one {weather} day, {N} {went} to {p2place} [to play|to look around|"
        "with {his_thing}].",
        "one day, {N} was {going} home from {p2place} with {his} {color} "
        "{thing}.",
        "{who} was on {his} way to {p2place} with {a_thing}.",
    )
    _weather(s)
    s.add(
        'suddenly {he} heard a [small|weak|thin] voice. "help! help!"',
        "then {he} heard someone cry.",
        '"help me, please!" called a voice.',
        "there was a strange sound, and {N} stopped to listen.",
    )
    s.new_paragraph()
    s.add(
        "it was {fN} the {fkind}. {fhe} was stuck between two rocks.",
        "{fa_kind} named {fN} was caught in an old net.",
        "{fN} the {fkind} had fallen into a deep hole.",
        "there was {fN} the {fkind}, and {fhis} leg was under a heavy stone.",
    )
    s.add(
        '"do not worry," said {N}. "I will get you out."',
        '"hold on, {fN}!" called {N}. "I am coming."',
        '"how long have you been here?" asked {N}. "since last night," said '
        "{fN}.",
        '"I am so glad that you came," said {fN}.',
    )
    s.add(
        "{who} pulled as hard as {he} could, but {he} was too weak alone.",
        "{he} tried to pull {fhim} out, but it did not work.",
        "{who} pushed and pulled, but nothing moved.",
    )
    s.maybe(0.5, "it was getting dark, and there was not much time.",
            "{who} sat down to think.", '"think, {N}, think," {he} told '
            "{himself}.", "{fN} began to cry.")
    s.new_paragraph()
    s.add(
        "then {he} had an idea. {he} could use {his_thing}!",
        '"I know what to do!" said {N}, and {he} took out {his_thing}.',
        "{he} looked at {his_thing} and smiled. that was the answer.",
        "{who} {went} to get {tN} the {tkind}, who was very strong.",
        '"wait here," said {N}, and {he} {went} to call {tN} the {tkind}.',
    )
    s.add(
        "one, two, three, and {fN} was free!",
        "it took a long time, but at last {fN} was free.",
        "[little by little|slowly, slowly], it worked. {fN} was free!",
    )
    s.add(
        '"thank you, {N}!" said {fN}. "you saved me."',
        '"I will never forget this, {N}," said {fN}.',
        '{fN} hugged {N} and said, "thank you, my friend."',
        '"how can I thank you?" asked {fN}. "just be my friend," said {N}.',
        '"you are a hero," said {fN}. "no," said {N}. "I am just {a_kind} who '
        'was near."',
    )
    s.maybe(0.6, "{fN} was hungry, so {N} gave {fhim} some {food}.",
            "{who} brought {fN} safely home.",
            "{fN} gave {N} [a flower|a smile|a little song] for it.",
            "a week later, {fN} helped {N} in the same way.")
    _ending(s, (
        "{who} learned that you are never too small to help.",
        "and whenever {N} needed help, {fN} was there.",
        "everybody said that {N} was the most {trait} {kind} of all.",
        "it was a good thing that {N} had stopped to listen.",
    ))


def _plot_race(s):
    s.add(
        "every year there was a great race from {place} to {p3place}.",
        "one day, the king called for a race to {p3place}.",
        "{who} heard that there would be a race to {p3place}.",
    )
    s.add(
        "the prize was {a_thing}.",
        "whoever came first would win {a_thing}.",
        "the winner would get {a_thing} and a big [pie|cake].",
    )
    s.maybe(0.7, '"you are too slow," said {fN} the {fkind}.',
            "{fN} the {fkind} had won three times.",
            '"I shall win, as always," said {fN} the {fkind}.',
            '"nobody is faster than I am," said {fN} the {fkind}.')
    s.add(
        "{who} wanted to try anyway.",
        '"I will do my best," said {N}.',
        "so {N} got up early every day and practised.",
    )
    s.new_paragraph()
    s.add(
        "on the day of the race, everyone came to watch.",
        "then the big day came.",
        "at last it was time for the race.",
    )
    _weather(s, 0.5)
    s.add(
        '"one, two, three, go!" called {tN} the {tkind}.',
        "{tN} the {tkind} rang a bell, and off they went.",
        "{tN} the {tkind} waved a flag, and the race began.",
    )
    s.add(
        "{fN} the {fkind} was far ahead, and {N} was last.",
        "at first, {fN} the {fkind} was the fastest of all.",
        "soon {N} could only see the dust behind {fN} the {fkind}.",
    ) if not s.at_sea else s.add(
        "at first, {fN} the {fkind} was the fastest of all.")
    s.new_paragraph()
    if s.rng.random() < 0.5:
        s.add(
            "but {p2in_place}, {fN} fell and hurt {fhis} leg.",
            "then {N} saw {fN} {p2in_place}. {fhe} had fallen and could not "
            "get up.",
        )
        s.add(
            "{who} could win now, but {he} stopped.",
            '"go on," said {fN}. "you can win." but {N} stayed.',
        )
        s.add(
            '"winning is nice," said {N}. "helping is better."',
            '"come, lean on me," said {N}.',
        )
        s.add(
            "together they came to {p3place}, and everyone cheered.",
            "side by side, they crossed the line, the last of all.",
        )
        s.add(
            "{tN} gave {the_thing} to both of them.",
            '"this is for the kindest heart," said {tN}, and gave {the_thing} '
            "to {N}.",
        )
        moral = (
            "{who} learned that there are better things than coming first.",
            "{fN} was never proud again.",
            "that was the day when {N} won a friend.",
        )
    else:
        s.add(
            "but {fN} was so sure to win that {fhe} stopped to [rest|sleep|"
            "eat] {p2in_place}.",
            "half way, {fN} stopped {p2in_place} to talk about {fhimself}.",
        )
        s.add(
            "{who} did not stop. {he} went on and on.",
            "step by step, {N} came closer.",
            '"slow and steady," said {N} to {himself}.',
        )
        s.add(
            "when {fN} looked up, {N} was already at {p3place}.",
            "just before {p3place}, {N} passed {fhim} and won.",
            "and so it was {N} who came to {p3place} first.",
        )
        s.add(
            '"how did you do that?" asked {fN}. "I just kept {going}," said '
            "{N}.",
            '{tN} gave {him} {the_thing}, and everyone clapped.',
            '"you won!" shouted {tN}. "the {thing} is yours!"',
        )
        moral = (
            "{who} learned that you win when you do not give up.",
            "{fN} learned not to be so proud.",
            "{who} let {fN} use {the_thing} too, and they became friends.",
        )
    _ending(s, moral)


def _plot_found_thing(s):
    s.add(
        "one {weather} [day|morning], {N} found {a_thing} {in_place}.",
        "one day, as {N} {went} to {place}, {he} saw {a_thing} on the ground.",
        "one morning, there was {a_thing} in front of {his} door.",
    )
    _weather(s, 0.4)
    s.add(
        "it was the most beautiful {thing} {he} had ever seen.",
        "it was old, but it shone in the light.",
        "{who} turned it over and over. whose could it be?",
    )
    s.add(
        '"may I keep it?" {N} asked {his} grandmother. "it belongs to '
        'someone," she said.',
        "{he} wanted to keep it, but {he} knew that it was not {his} own.",
        '"somebody must be looking for this {thing}," said {N}.',
    )
    s.new_paragraph()
    s.add(
        "so {N} {went} to {p2place} and asked {tN} the {tkind}.",
        "first, {he} asked {tN} the {tkind}, who lived {p2in_place}.",
        "{p2in_place}, {he} showed {the_thing} to {tN} the {tkind}.",
    )
    s.add(
        '"it is not mine," said {tN}. "but I heard someone cry {p3in_place}."',
        '"I have no {thing}," said {tN}. "ask {fN}, {p3in_place}."',
        '"what a fine {thing}," said {tN}. "I think that {fN} had one like '
        'it."',
    )
    s.add(
        "{who} thanked {thim} and {went} on to {p3place}.",
        "so {N} {went} all the way to {p3place}.",
    )
    s.new_paragraph()
    s.add(
        "there sat {fN} the {fkind}, sad and alone.",
        "{p3in_place}, {N} found {fN} the {fkind}, who was crying.",
        "{fN} the {fkind} was looking under every leaf and stone.",
    )
    s.add(
        '"is this your {thing}?" asked {N}.',
        '"did you lose {a_thing}?" asked {N}.',
        '"look what I found," said {N}.',
    )
    s.add(
        '"my {thing}!" cried {fN}. "it was a present from my mother."',
        "{fN} jumped up. \"yes! that is my {thing}!\" {fhe} cried.",
        '"oh, thank you!" said {fN}. "I have looked for it for three days."',
    )
    s.maybe(0.7, '"you could have kept it," said {fN}. "no," said {N}. "it '
            'was yours."', "{fN} was so happy that {fhe} danced.",
            "{fN} gave {N} some {food}, and they sat down to eat.",
            '"come and visit me any time," said {fN}.')
    _ending(s, (
        "{who} had given away {a_thing} and found a friend.",
        "{who} learned that being honest feels better than having a new {thing}.",
        "the next day, {fN} made {N} {a_thing} of {his} own.",
        "{who} was glad that {he} had done the right thing.",
    ))


def _plot_learning(s):
    s.add(
        "{who} wanted to learn to {skill}.",
        "all {his} friends could {skill}, but {N} could not.",
        "there was one thing that {N} wanted most: to learn to {skill}.",
        "{who} could do many things, but {he} could not {skill}.",
    )
    s.maybe(0.6, '"you will never {skill}," said the others.',
            "{he} dreamed of {skilling} every night.",
            "when the others were {skilling}, {N} only watched.")
    s.add(
        "{he} tried on Monday, and it went wrong.",
        "the first time, it was terrible, and everybody laughed.",
        "{he} tried and tried, but it never worked.",
    )
    s.maybe(0.5, '"I will never learn it," said {N}.',
            "{who} wanted to give up.", "{N} went home and hid under {his} "
            "blanket.")
    s.new_paragraph()
    _weather(s, 0.4)
    s.add(
        "then {he} heard about {fN} the {fkind}, who lived {p2in_place}.",
        "one day, {N} met {fN}, {fa_kind} who was very good at {skilling}.",
        "{p2in_place} lived {old} {fN} the {fkind}, and nobody was better at "
        "{skilling}.",
    )
    s.add(
        '"can you teach me to {skill}?" asked {N}.',
        '"please, {fN}, teach me to {skill}," said {N}.',
        '"I want to {skill} like you," said {N}.',
    )
    s.add(
        '"I can," said {fwho}. "but it takes time."',
        '"yes, if you practise every day," said {fwho}.',
        '"when I was young, I could not do it either," said {fwho}.',
        '"bring {a_thing} tomorrow," said {fwho}. "then we will begin."',
    )
    s.add(
        "so every morning, {N} {went} to {p2place} and practised.",
        "day after day, {N} practised with {fN} {p2in_place}.",
        "they worked together for many days, in the sun and in the rain.",
    )
    s.add(
        "on the first day {he} did badly, on the second a little better.",
        "{he} made a hundred mistakes, and {fN} only smiled.",
        '"every mistake is a step," said {fN}.',
        "sometimes {he} was tired, but {he} did not stop.",
    )
    s.new_paragraph()
    s.add(
        "then there was a great feast {in_place}, and everyone was there.",
        "at last, one {weather} evening, {he} showed it to everyone {in_place}.",
        "one morning, {N} tried again, and it worked!",
    )
    s.add(
        '"look! {N} can {skill}!" they all shouted.',
        "{who} did it without one mistake.",
        "nobody laughed now. everyone clapped.",
        '"I can {skill}! I can really {skill}!" cried {N}.',
    )
    _thanks(s)
    _ending(s, (
        "{who} learned that practice makes hard things easy.",
        "later, {N} taught {tN} the {tkind} to {skill} too.",
        "now {N} is {skilling} every day, just for fun.",
        "and {N} never again said \"I cannot\".",
    ))


def _plot_mistake(s):
    s.add(
        "{his} neighbour was {fN} the {fkind}, who had {a_thing}.",
        "{who} often visited {fN} the {fkind}, who owned {a_thing}.",
        "{fN} the {fkind} had {a_thing} and was very proud of it.",
    )
    s.add(
        '"please do not touch it," {fN} always said.',
        "it was kept {p2in_place}, where everyone could see it.",
        "{who} thought that it was wonderful.",
    )
    s.new_paragraph()
    _weather(s)
    s.add(
        "one day, when nobody was looking, {N} picked up {the_thing}.",
        "one {weather} day, {N} wanted to look at it, just once.",
        "one afternoon, {N} was alone with {the_thing}.",
    )
    s.add(
        "it slipped and fell. crack! {the_thing} was broken.",
        "but {he} was not careful enough, and {the_thing} broke in two.",
        "then there was a terrible noise, and {the_thing} was in pieces.",
    )
    s.add(
        "{who} was so afraid that {he} hid it and {went} away.",
        "{his} face turned red. {he} put the pieces under a bush and {went} "
        "home.",
        '"oh no, what have I done?" whispered {N}.',
    )
    s.new_paragraph()
    s.add(
        "at home, {he} could not eat {his} {food}.",
        "all night, {N} thought about {the_thing}.",
        "{he} did not feel well, and it was not {his} stomach.",
    )
    s.add(
        '"what is the matter?" asked {tN} the {tkind}. {N} told {thim} '
        "everything.",
        "{tN} the {tkind} saw {his} sad face, and {N} told {thim} the truth.",
    )
    s.add(
        '"you know what to do," said {tN}.',
        '"the truth is heavy only until you say it," said {tN}.',
        '"go to {fN} and tell the truth," said {tN}. "I will come with you."',
    )
    s.new_paragraph()
    s.add(
        "in the morning, {N} {went} to {fN}. \"I broke your {thing},\" {he} "
        'said. "I am very sorry."',
        '"{fN}, it was me," said {N}. "I broke the {thing}, and I am sorry."',
    )
    s.add(
        "{fN} was quiet for a long time. then {fhe} smiled.",
        "{fN} looked at the pieces, and then at {N}.",
        "{fN} was angry, but only for a moment.",
    )
    s.add(
        '"thank you for telling me the truth," said {fN}.',
        '"a {thing} can be mended," said {fN}. "a lie is harder to mend."',
        '"I broke one once, too," said {fN}. "let us mend it together."',
    )
    s.add(
        "together they mended it, and it was almost as good as new.",
        "{who} worked for a week {p3in_place} to buy a new {thing}.",
        "they mended {the_thing} with glue and {color} string.",
    )
    _ending(s, (
        "{who} learned that telling the truth makes the heart light.",
        "since that day, {N} has always told the truth.",
        "the {thing} had a crack, but their friendship had none.",
        "{who} felt better than {he} had felt for days.",
    ))


def _plot_newcomer(s):
    s.add(
        "one day, {fa_kind} named {fN} came to live {in_place}.",
        "one {weather} morning, there was a new neighbour {in_place}: {fN} the "
        "{fkind}.",
        "in the spring, {fN} the {fkind} moved into the house next door.",
    )
    s.add(
        "{fN} was different, and nobody spoke to {fhim}.",
        "nobody knew {fhim}, and {fN} sat alone every day.",
        '"I do not like new people," said {tN} the {tkind}.',
    )
    _weather(s, 0.4)
    s.new_paragraph()
    s.add(
        "but {N} was curious.",
        "{who} felt sorry for {fhim}.",
        "{who} remembered how it feels to be alone.",
    )
    s.add(
        "{he} took some {food} and {went} to see {fhim}.",
        "{he} took {his_thing} and {went} to {fhis} door.",
        "so {he} {went} to {fN} and said hello.",
    )
    s.add(
        '"hello, I am {N}," {he} said. "would you like to play?"',
        '"welcome!" said {N}. "I live next door."',
        '"do you want to see my {thing}?" asked {N}.',
    )
    s.add(
        "{fN} was so surprised that {fhe} could not speak.",
        '"nobody has asked me that before," said {fN}.',
        '{fN} smiled for the first time. "I would love to," {fhe} said.',
    )
    s.add(
        "they played {p2in_place} until it was dark.",
        "{fN} knew a hundred [songs|stories|games], and {N} wanted to hear "
        "them all.",
        "{fN} showed {N} how to {skill}, and {N} showed {fhim} {p2place}.",
    )
    s.new_paragraph()
    s.add(
        "a week later, {tN} the {tkind} got into trouble {p3in_place}.",
        "then, one night, {tN} the {tkind} was lost {p3in_place}.",
        "some days later, {tN} the {tkind} fell ill {p3in_place}.",
    )
    s.add(
        "nobody knew what to do, but {fN} did.",
        "it was {fN} who heard it first and {went} to help.",
        "{fN} and {N} {went} there at once.",
    )
    s.add(
        '"I was wrong about you," said {tN}. "thank you, {fN}."',
        "before morning, everything was well again, and {tN} thanked {fhim}.",
        "{tN} was ashamed and said, \"will you be my friend too?\"",
    )
    _ending(s, (
        "after that, {fN} was never alone again.",
        "{who} learned that a stranger can become a friend.",
        "and it all began because {N} had said hello.",
        "soon nobody could remember {place} without {fN}.",
    ))


def _plot_building(s):
    s.add(
        "{who} had a dream: {he} wanted to build {b_thing}.",
        "one day, {N} decided to build {b_thing}.",
        "{who} was tired of doing nothing, so {he} began to build {b_thing}.",
    )
    s.maybe(0.6, '"you cannot do that," said {tN} the {tkind}.',
            '"what is it for?" asked {tN} the {tkind}. "for everyone," said '
            "{N}.", "everybody {in_place} shook their heads.")
    _weather(s)
    s.new_paragraph()
    s.add(
        "{he} found some wood {p2in_place} and a rope {p3in_place}.",
        "first {he} looked for wood, and then for nails.",
        "{he} carried [stones|boards|sticks] from {p2place} all day.",
    )
    s.add(
        "it was hard work, and {his} hands hurt.",
        "but it was crooked, and the wind blew it down.",
        "the first one fell over, and the second one too.",
        "after three days, it still did not look like {b_thing}.",
    )
    s.maybe(0.5, '"I need help," said {N}.',
            "{who} sat down and was sad.", '"again," said {N}, and {he} began '
            "again.")
    s.new_paragraph()
    _meet_friend(s)
    s.add(
        '"what are you building?" asked {fwho}. "{b_thing}," said {N}.',
        '"may I help?" asked {fwho}.',
        '"you need {a_thing} for that," said {fwho}. "I have one."',
    )
    s.add(
        "{fN} held the wood, and {N} used the hammer.",
        "{fN} had good ideas, and {N} had strong hands.",
        "together the work was twice as fast and twice as much fun.",
    )
    s.add(
        "even {tN} the {tkind} came to help in the end.",
        "soon others came to help, one by one.",
        "they sang while they worked.",
    )
    s.add(
        "on the [third|fifth|seventh] day, it was ready.",
        "at last, {b_thing} stood {in_place}.",
        "when it was done, it was the finest in the land.",
    )
    s.add(
        '"it is wonderful!" everyone said.',
        '"we built this," said {N}. "all of us."',
        "{N} and {fN} looked at it and were proud.",
    )
    _ending(s, (
        "{who} learned that many hands make light work.",
        "they painted it {color}, and it is still there today.",
        "{who} knew that great things are built one piece at a time.",
        "and every day, someone came to enjoy it.",
    ))


_LAND_PLOTS = (
    _plot_lost_thing, _plot_journey, _plot_cooking, _plot_fear, _plot_quarrel,
    _plot_rescue, _plot_race, _plot_found_thing, _plot_learning, _plot_mistake,
    _plot_newcomer, _plot_building,
)
_SEA_PLOTS = (
    _plot_lost_thing, _plot_journey, _plot_fear, _plot_quarrel, _plot_rescue,
    _plot_race, _plot_found_thing, _plot_newcomer,
)
# Plots in which the thing is what the story turns on.
_THING_PLOTS = (_plot_lost_thing, _plot_quarrel, _plot_found_thing,
                _plot_mistake)
_BUILT = ("a bridge", "a boat", "a tree house", "a windmill", "a swing",
          "a tower", "a cart", "a raft", "a little theatre")


def write_story(rng: random.Random, wish: Wish = Wish()) -> list:
    """One story as a list of paragraphs, 120 to 400 tokens in all."""
    s = _Story(rng, wish)
    s.slots["b_thing"] = lean(rng, _BUILT)
    if wish.thing:
        plots = _THING_PLOTS
    else:
        plots = _SEA_PLOTS if s.at_sea else _LAND_PLOTS
    _opening(s)
    lean(rng, plots)(s)
    return [" ".join(p) for p in s.paragraphs if p]


if __name__ == "__main__":
    import sys

    writer = random.Random(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 3):
        print("\n".join(write_story(writer)), end="\n\n")
