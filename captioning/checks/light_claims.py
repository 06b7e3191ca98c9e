# SPDX-License-Identifier: Apache-2.0
"""Does a caption call the whole picture dark or bright, in colour or black and white?

Dark hair, bright signs and a black-and-white cat are things in the picture; they claim nothing of it.
"""

import re

from captioning.checks.clauses import Topic, wording

DARK, BRIGHT = "dark", "bright"
COLOUR, GREY = "colour", "grey"

WHOLE = (
    r"(?:scene|image|picture|frame|clip|video|footage|shot|exposure|lighting|light|illumination|room|interior|setting"
    r"|surroundings|environment|space|place|everything|rest|overall look|composition|visuals|tone)"
)
PLACE = rf"(?:{WHOLE}|street|alley|corridor|hallway|cave|tunnel|basement|hall|kitchen|office|background|backdrop|atmosphere|ambience|mood)"
IS = r"(?:is|are|was|looks?|appears?|feels?|seems?|remains?|stays?|being|keeps?)"
HOW = r"(?:\w+ly |very |quite |rather |too |so |all |overall |a bit |somewhat )"
DIM = r"(?:dark|dim|gloomy|murky|unlit|shadowy|sombre|somber|pitch black|pitch dark|under ?exposed|low lit|dusky)"
LIT = r"(?:bright|sunlit|sunny|well lit|brightly lit|over ?exposed|luminous|brilliant|airy)"
AND = r"(?:(?:,| and|, and) (?:\w+ly )?\w+ )"

BRIGHTNESS = Topic(
    not_meant=re.compile(
        r"\b(?:dark|bright|light|black)[- ](?:haired|skinned|eyed|coloured|colored|dressed)\b|\bdark ages\b|\bbrightness of\b"
        r"|\bonly (?:\w+ )?bright\b|\bnight[- ](?:blue|stand|club|gown|cap)\b|\bbright (?:smile|future|idea|side)\b",
        re.IGNORECASE,
    ),
    claims={
        DARK: (
            wording(
                rf"{DIM}(?:{AND}|,? \w+ly | |, \w+ ){PLACE}",
                rf"{WHOLE} (?:overall )?{IS} {HOW}*{DIM}",
                rf"{WHOLE} {IS} (?:{HOW}*\w+,? (?:and|but) ){HOW}*{DIM}",
                r"(?:dimly|poorly|barely|scarcely|faintly|hardly) (?:lit|illuminated|visible)",
                r"(?:poor|low|little|dim|scant|faint|insufficient|very little) (?:ambient |available |natural )?(?:light|lighting|illumination)",
                r"low key",
                r"under ?exposed(?: overall)?",
                r"(?:complete|total|near|almost complete|near total|utter) darkness",
                r"(?:cloaked|shrouded|plunged|bathed|engulfed|sunk|drowned|wrapped|leaving everything|swallowed) in(?:to)? (?:\w+ )?(?:darkness|shadows?|gloom|black)",
                r"pitch (?:black|dark)",
                r"(?:deep|heavy) shadows? (?:dominates?|covers?|fills?|engulfs?)",
                r"(?:most|much|all) of (?:the|it)(?: \w+)? (?:is|lies|in|are|being)? ?(?:in )?(?:deep )?(?:shadow|darkness|dark)",
                r"(?:at|late at|by|during the|in the|middle of the) night",
                r"night ?(?:time|scene|shot|street|setting|view|footage|sky|exterior|interior|lighting)",
                r"moonlight barely",
                r"dim(?:ly)?(?: \w+)? glow",
            ),
        ),
        BRIGHT: (
            wording(
                rf"{LIT}(?:{AND}| |, \w+ )(?:{WHOLE}|daylight|sunlight|sunshine|meadow|beach|kitchen|office|studio lights?|morning|day|white background|background|midday sun|aisle|summer day)",
                rf"{WHOLE} (?:overall )?{IS} {HOW}*{LIT}",
                rf"{WHOLE} {IS} (?:{HOW}*\w+,? (?:and|but) ){HOW}*{LIT}",
                r"(?:brightly|well|brilliantly|fully|evenly|generously) (?:lit|illuminated)",
                r"(?:brightly lit|bright)[^.;]{0,12} by (?:the )?(?:\w+ )?(?:sun|sunlight|windows?|lights?|lamps?|daylight)",
                r"high key",
                r"over ?exposed",
                r"washed out",
                r"(?:brilliant|blazing|dazzling|glaring|intense|strong|harsh|blinding|full) (?:bright )?(?:sun|sunlight|sunshine|daylight|midday sun)",
                r"midday sun",
                r"sun ?(?:drenched|soaked|flooded|bathed)",
                r"(?:bathed|drenched|flooded|awash) in (?:\w+ )?(?:sunlight|sunshine|sun|daylight|light)",
                r"^bright,? (?:even|high|natural|soft|clear|uniform|and even|and uniform)",
                r"abundant (?:natural )?(?:light|daylight)",
                but_not=r"spotlight|neon|signs?\b",
            ),
        ),
    },
)

NAMES = (
    r"(?:red|yellow|green|blue|purple|violet|pink|brown|golden|turquoise|teal|crimson|scarlet|magenta|cyan|amber|beige|maroon"
    r"|emerald|azure|lavender|lilac|indigo|olive|ochre|orange|reddish|bluish|greenish|yellowish|tan|khaki|rust coloured|rosy|ruby|auburn)"
)
FILM = r"(?:footage|video|clip|image|imagery|picture|film|documentary|presentation|cinematography|aesthetic|look|photography|style|tones?|treatment|palette|scene|shot|recording|visuals|format|grading|rendering|frame)"
BW = r"(?:black(?: and | ?& ?)white|b ?& ?w|b/w|monochrome|monochromatic|gr[ae]y ?scale|desaturated|colou?rless)"
THINGS = r"poster|television|tv\b|monitor|screen|photographs?|photos?|mural|portraits?|pictures hang|blue|green|red|brown|orange|sepia|cat\b|tiles?"

COLOURS = Topic(
    not_meant=re.compile(
        r"\b(?:Mr|Mrs|Ms|Dr)\.? \w+|(?<=[a-z,] )(?-i:[A-Z]\w+)(?: (?-i:[A-Z]\w+|of))*"  # names of people and places
        r"|^(?:(?:the|a) )?(?-i:[A-Z]\w+ [A-Z]\w+)(?: [A-Z]\w+)*"
        r"|\ban? orange(?=[,.]| (?:and|cut|is|on|in|lies|from|rolls|half|slice)\b|$)|\boranges\b|\bgolden (?:age|ratio|hour|retriever|years|eagle)\b"
        r"|\bgreen(?:s keeper|house|screen| room| tea)\b|\bblues\b(?! and)|\bred ?wood\b|\bbrown bear\b|\bthe greens\b",
        re.IGNORECASE,
    ),
    claims={
        COLOUR: (
            wording(
                NAMES,
                r"(?:blues|greens|reds|yellows|oranges|browns|pinks|purples)(?:,| and)? \w+",
                r"(?:and|vivid|bright|deep) (?:blues|greens|reds|yellows|oranges|browns|pinks|purples)",
                r"(?:vibrant|vivid|saturated|rich|bright|full|warm|natural|bold|lively|intense|lush|strong) (?:and \w+ )?colou?rs?",
                r"colou?rful",
                r"colou?rs are (?:\w+ly )?(?:warm|vivid|vibrant|rich|saturated|bright|natural)",
                r"(?:high|strong) saturation",
                r"(?:vibrant|saturated|warm) (?:palette|tones)",
            ),
        ),
        GREY: (
            wording(
                rf"{BW} (?:\w+ )?{FILM}",
                rf"(?:in|entirely|completely|fully|purely) {BW}(?! (?:suit|dress|stripes?|shirt|uniform|coat|costume|outfit|pattern|striped|checkered|clothes|clothing))",
                rf"(?:footage|video|clip|image|picture|film) is (?:\w+ly )*{BW}",
                r"(?:shades|tones) of gr[ae]y",
                r"(?:no|without(?: any)?|lacks(?: any)?|devoid of(?: any)?|drained of|absence of) colou?rs?",
                but_not=THINGS,
            ),
            wording(rf"^(?:a |an |the |presented in |shot in )?{BW}(?!-?\w)", fields=["Style", "Lighting"], but_not=THINGS),
        ),
    },
    denials={
        GREY: (
            wording(
                r"(?:no|without(?: any)?|lacks(?: any)?|devoid of(?: any)?|drained of(?: all| any)?|free of) colou?rs?(?! (?:grading|cast|correction|filter|shift|fringing))",
            ),
        ),
    },
)
