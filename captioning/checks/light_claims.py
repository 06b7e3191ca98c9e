# SPDX-License-Identifier: Apache-2.0
"""Does a caption call the whole picture dark or bright, in colour or black and white?

Dark hair, bright signs and a black-and-white cat are things in the picture; they claim nothing of it.
"""

import re

from captioning.checks.clauses import Topic, wording

DARK, BRIGHT = "dark", "bright"
COLOUR, GREY = "colour", "grey"

MOODS = ("Lighting", "Video Atmosphere")  # texts that speak of the whole picture without naming it
WHOLE = (
    r"(?:scene|image|picture|frame|clip|video|footage|shot|exposure|lighting|light|illumination|room|interior"
    r"|setting|set"
    r"|surroundings|environment|space|place|everything|rest|overall look|composition|visuals|tone)"
)
PLACE = (
    rf"(?:{WHOLE}|streets?|alley|alleyway|corridor|hallway|cave|cavern|tunnel|basement|cellar|hall|kitchen|office"
    rf"|bar|club|barn"
    r"|attic|garage|church|warehouse|theatre|theater|forest|woods|background|backdrop|atmosphere|ambience|mood"
    r"|conditions)"
)
SUNNY = (
    rf"(?:{WHOLE}|daylight|sunlight|sunshine|meadow|beach|kitchen|office|studio lights?|morning|afternoon|day"
    rf"|white background|background|midday sun|aisle|summer day)"
)
IS = r"(?:is|are|was|looks?|appears?|feels?|seems?|remains?|stays?|being|keeps?)"
HOW = r"(?:\w+ly |very |quite |rather |too |so |all |overall |a bit |somewhat )"
DIM = (
    r"(?:dark|dim|dimmed|gloomy|murky|unlit|under ?lit|shadowy|sombre|somber|pitch black|pitch dark|under "
    r"?exposed|low lit|dusky)"
)
LIT = r"(?:bright|sunlit|sunny|well lit|brightly lit|over ?exposed|luminous|brilliant|airy|dazzling|radiant)"
AND = r"(?:(?:,| and|, and) (?:\w+ly )?\w+ )"
OVERALL = r"(?:overall,? |very |flat,? |crisp,? |clear,? |soft,? |even,? |rather |mostly |generally |quite )*(?:and )?"
ALONE = r"(?= and|,|[.]|$| overall)"
SOME = (
    r"(?:in the distance|only|spotlights?|neon|signs?|moon|moonlit|stars?|starry|crack|torch|beam|flash|lightning"
    r"|candles?|flames?)"
)
LIGHT_IN_THE_DARK = rf"\b{SOME}\b"

BRIGHTNESS = Topic(
    not_meant=re.compile(
        r"\b(?:dark|bright|light|black)[- ](?:haired|skinned|eyed|coloured|colored|dressed)\b|\bdark ages\b"
        r"|\bbrightness of\b"
        r"|\bnight[- ](?:blue|stand|club|gown|cap|creams?)\b|\bbright (?:smile|future|idea|side)\b",
        re.IGNORECASE,
    ),
    claims={
        DARK: (
            wording(
                rf"{DIM}(?:{AND}|,? \w+ly | |, \w+ ){PLACE}",
                rf"{WHOLE} (?:overall )?{IS} {HOW}*{DIM}",
                rf"{WHOLE} {IS} (?:{HOW}*\w+,? (?:and|but) ){HOW}*{DIM}",
                rf"{WHOLE} so (?:dark|dim)",
                rf"{WHOLE} {IS} (?:dominated by|mostly|nearly all|largely) (?:blacks?|shadows?|darkness)",
                r"(?:dimly|poorly|barely|scarcely|faintly|hardly) (?:lit|illuminated|visible)",
                r"(?:poor|low|little|dim|scant|faint|insufficient|very little) (?:ambient |available |natural "
                r")?(?:light|lighting|illumination)",
                r"low key",
                r"under ?exposed",
                r"(?:complete|total|near|almost complete|near total|utter|half) darkness",
                r"(?:in|into) (?:the )?(?:\w+ )?(?:darkness|blackness)",
                r"(?:cloaked|shrouded|plunged|bathed|engulfed|sunk|drowned|wrapped|leaving everything|swallowed) "
                r"in(?:to)? (?:\w+ )?(?:darkness|shadows?|gloom|black)",
                r"pitch (?:black|dark)",
                r"(?:deep|heavy) shadows? (?:dominates?|covers?|fills?|engulfs?)",
                r"(?:most|much|all) of (?:the|it)(?: \w+)? (?:is|lies|in|are|being)? ?(?:in )?(?:deep )?(?:shadow"
                r"|darkness|dark)",
                r"(?:at|late at|by|during the|in the|middle of the) night",
                r"(?:after|around|past|at) midnight",
                r"night ?(?:time|scene|shot|street|setting|view|footage|sky|exterior|interior|lighting)",
                r"moonlight barely",
                r"dim(?:ly)?(?: \w+)? glow",
            ),
            wording(rf"^{OVERALL}{DIM}{ALONE}", fields=MOODS),
        ),
        BRIGHT: (
            wording(
                rf"{LIT}(?:{AND}| |, \w+ ){SUNNY}",
                rf"{WHOLE} (?:overall )?{IS} {HOW}*{LIT}",
                rf"{WHOLE} {IS} (?:{HOW}*\w+,? (?:and|but) ){HOW}*{LIT}",
                r"(?:brightly|well|brilliantly|fully|evenly|generously|highly|strongly|intensely) (?:lit|illuminated)",
                r"(?:lit|illuminated) (?:\w+ and )?(?:brightly|strongly|brilliantly|generously)",
                r"(?:brightly lit|bright)[^.;]{0,12} by (?:the )?(?:\w+ )?(?:sun|sunlight|windows?|lights?|lamps?"
                r"|daylight)",
                r"high key",
                r"over ?exposed",
                r"(?:washed|blown) out",
                r"(?:brilliant|blazing|dazzling|glaring|intense|strong|harsh|blinding|full) (?:bright )?(?:sun"
                r"|sunlight|sunshine|daylight|midday sun|noon)",
                r"midday sun",
                r"sun ?(?:drenched|soaked|flooded|bathed)",
                r"(?:bathed|drenched|flooded|awash|filled|flooding) (?:in|with) (?:\w+ )?(?:sunlight|sunshine|sun"
                r"|daylight|light)",
                r"(?:abundant|ample|plenty of|lots of|generous) (?:natural )?(?:light|daylight|sunlight)",
                but_not=LIGHT_IN_THE_DARK,
            ),
            wording(
                rf"^{OVERALL}{LIT}{ALONE}",
                r"flat,? bright",
                r"(?:crisp|clear|even|clean|light|airy|soft) and bright",
                r"bright,? (?:and )?(?:even|high|natural|soft|clear|uniform)",
                fields=MOODS,
                but_not=LIGHT_IN_THE_DARK,
            ),
        ),
    },
    denials={DARK: (wording(r"(?:hardly|barely|scarcely|almost no) any light", r"almost no light"),)},
)

NAMES = (
    r"(?:red|yellow|green|blue|purple|violet|pink|brown|golden|turquoise|teal|crimson|scarlet|magenta|cyan|amber"
    r"|beige|maroon"
    r"|emerald|azure|lavender|lilac|indigo|olive|ochre|orange|reddish|bluish|greenish|yellowish|tan|khaki|rust "
    r"coloured|rosy|ruby|auburn)"
)
PLURALS = r"(?:blues|greens|reds|yellows|oranges|browns|pinks|purples)"
FILM = (
    r"(?:footage|video|clip|image|imagery|picture|film|documentary|presentation|cinematography|aesthetic|look"
    r"|photography|style|tones?|treatment|palette|scene|shot|recording|visuals|format|grading|rendering|frame)"
)
BW = r"(?:black(?: and |\s?&\s?|/)white|b\s?&\s?w|b/w|monochrome|monochromatic|gr[ae]y ?scale|desaturated|colou?rless)"
CLOTHES = (
    r"(?:suit|dress|stripes?|shirt|uniform|coat|costume|outfit|pattern|striped|checkered|clothes|clothing|carries"
    r"|robes?)"
)
THINGS = (
    r"\b(?:poster|television|tv|monitor|screen|photographs?|photos?|prints?|western|mural|portraits?|pictures "
    r"hang|blue|green|red"
    r"|brown|orange|sepia|cat|tiles?)\b"
)

COLOURS = Topic(
    not_meant=re.compile(
        r"\b(?:Mr|Mrs|Ms|Dr)\.? \w+|(?<=[a-z,] )(?-i:[A-Z]\w+)(?: (?-i:[A-Z]\w+|of))*"  # names of people and places
        r"|^(?:(?:the|a) )?(?-i:[A-Z]\w+ [A-Z]\w+)(?: [A-Z]\w+)*"
        r"|\ban? (?:orange|violet)(?=[,.]| (?:and|cut|is|on|in|lies|from|rolls|half|slice|stands?)\b|$)|\boranges\b"
        r"|\bgolden (?:age|ratio|hour|retriever|years|eagle)\b|\bbrowns the\b|\bbrown bear\b|\bthe greens\b"
        r"|\bgreen(?:s keeper|house|screen| room| tea)\b|\bblues\b(?! and)|\bred ?wood\b",
        re.IGNORECASE,
    ),
    claims={
        COLOUR: (
            wording(
                NAMES,
                rf"{PLURALS}(?:,| and)? (?:and )?{PLURALS}",
                rf"(?:vivid|bright|deep|rich|warm) {PLURALS}",
                r"(?:vibrant|vivid|saturated|rich|bright|full|warm|natural|bold|lively|intense|lush|strong)(?:,? "
                r"(?:and )?\w+)? (?:colou?rs?|hues)",
                r"colou?rful",
                r"colou?rs are (?:\w+ly )?(?:warm|vivid|vibrant|rich|saturated|bright|natural)",
                r"(?:high|strong|heavy) saturation",
                r"(?:vibrant|saturated|warm) (?:palette|tones)",
            ),
        ),
        GREY: (
            wording(
                rf"{BW} (?:\w+ )?{FILM}",
                rf"(?:in|entirely|completely|fully|purely) {BW}(?! {CLOTHES})",
                rf"(?:footage|video|clip|image|picture|film) is (?:\w+ly )*{BW}",
                r"(?:shades|tones) of gr[ae]y",
                r"(?:leaving|nothing but) (?:only )?gr[ae]ys?",
                r"(?:removes|drains|strips)(?: away)? all colou?r",
                but_not=THINGS,
            ),
            wording(rf"{BW}(?=,|[.]|;|$| with| and| as| to| that)", fields=["Style", "Lighting"], but_not=THINGS),
        ),
    },
    denials={
        GREY: (
            wording(
                r"(?:no|without(?: any)?|lacks(?: any)?|devoid of(?: any)?|drained of(?: all| any)?|free of"
                r"|absence of) colou?rs?"
                r"(?! (?:grading|cast|correction|filter|shift|fringing))",
            ),
        ),
    },
)
