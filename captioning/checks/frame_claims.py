# SPDX-License-Identifier: Apache-2.0
"""What a caption claims of the frame's shape, of text that can be read in it, and of the number of shots."""

import re

from captioning.checks.clauses import Topic, wording

PORTRAIT, LANDSCAPE, SQUARE = "portrait", "landscape", "square"
TEXT, NO_TEXT = "text", "no text"
SEVERAL, ONE = "several shots", "one shot"

VIDEO = r"(?:video|clip|footage|framing|frame|format|orientation|composition|aspect ratio|aspect|shot|image|picture|mode|layout|presentation)"
FILMED = r"(?:filmed|shot|recorded|framed|captured|presented|composed|oriented)"
OTHER_FRAMES = r"\b(?:phone|phones|smartphone|laptop|display|monitor|screen|television|tablet|scrolls?)\b(?<!on a smartphone)(?<!for phones)(?<!on a phone)"

ORIENTATION = Topic(
    claims={
        PORTRAIT: (
            wording(
                rf"portrait (?:orientation|format|oriented|mode|aspect|framing|{VIDEO})(?! painter)",
                rf"(?:tall,? )?vertical(?:ly oriented)? {VIDEO}",
                rf"{FILMED} vertically",
                rf"vertically {FILMED}",
                r"9 ?: ?16",
                r"taller than (?:it is )?wide",
                r"upright (?:format|frame|orientation|video)",
                but_not=OTHER_FRAMES,
            ),
        ),
        LANDSCAPE: (
            wording(
                r"landscape (?:orientation|format|oriented|mode|aspect|aspect ratio|framing)",
                r"(?:wide ?screen|anamorphic)",
                rf"horizontal(?:ly oriented)? {VIDEO}",
                rf"{FILMED} horizontally",
                rf"horizontally {FILMED}",
                r"(?:16 ?: ?9|21 ?: ?9|2\.(?:35|39|40?) ?: ?1|1\.85 ?: ?1)",
                r"wider than (?:it is )?(?:tall|high)",
                but_not=OTHER_FRAMES,
            ),
        ),
        SQUARE: (
            wording(
                rf"square {VIDEO}",
                r"(?:frame|picture|image|video|format|framing) is square",
                r"1 ?: ?1",
                r"as wide as (?:it is )?(?:tall|high)",
                but_not=OTHER_FRAMES,
            ),
        ),
    },
)

WRITING = r"(?:texts?|lettering|writing|written words|words|inscriptions?|captions|subtitles|typography)"
SEEN = r"(?:visible|on screen|readable|legible|overlaid|discernible|other|recognizable|printed|written)"
QUOTED = r"[\"“'«][^\"”»]{1,80}[\"”'»]"
UNREADABLE = r"illegible|unreadable|not (?:legible|readable)|blurred|too (?:far|small)|out of view|from behind|unknown|can(?:not|'t) be read|hidden"

TEXTS = Topic(
    denials={
        NO_TEXT: (
            wording(
                rf"(?:no|without(?: any)?|free (?:of|from)(?: any)?|devoid of(?: any)?|neither|lacks(?: any)?|not contain(?: any)?|not (?:include|feature|show|have)(?: any)?)"
                rf" (?:{SEEN},? |\w+, |\w+ (?:or|and) |signs,? (?:or )?|logos,? (?:or )?)*{WRITING}",
                r"text is (?:\w+ly )?absent",
                r"no signs or lettering",
            ),
        ),
    },
    claims={
        TEXT: (
            wording(
                rf"(?:reads?|reading|says|saying|labell?ed|spells?(?: out)?|states|titled|displays|announces|marked|displaying|showing|proclaims|bears) (?:\w+ ){{0,3}}?{QUOTED}",
                rf"(?:the )?(?:word|words|text|title|message|destination|phrase|slogan|name|letters|inscription|caption|logo|number|date)s?:? {QUOTED}",
                rf"{QUOTED} (?:is|are) (?:written|printed|painted|displayed|visible)",
                r"(?:subtitles?|captions|credits|title|watermark|text|timestamp|characters|lettering|inscription|words) (?:\w+ )?(?:appears?|is visible|are visible|can be seen|can be read|overlays?|rolls?|overlaid|scrolls?|fades? in|runs along|along the bottom|at the bottom|in the (?:upper|lower|top|bottom|corner))",
                r"(?:on screen|overlaid|burned in|superimposed) (?:text|captions?|titles?|graphics)",
                r"credits roll",
                r"title card",
                r"lower third",
                r"timestamp (?:reading|of|shows)",
                r"(?:chinese|japanese|korean|arabic|cyrillic|hebrew|greek|thai) (?:characters|letters|text|script|writing|lettering)",
                r"(?:large|bold|white|big|neon|painted|gold|red) (?:\w+ )?lettering",
                r"number \d+ (?:is )?(?:printed|painted|on|written)",
                r"(?:route|bus|jersey|shirt|race|bib|start|licence plate|license plate) number",
                r"(?:logo|name|brand)[^.;]{0,40} in (?:capital |bold |large |white |red )?letters",
                r"text overlays?",
                r"there is (?!no)(?:\w+ )?text",
                but_not=UNREADABLE,
            ),
        ),
    },
)

NOT_SHOTS = (
    r"\b(?:espresso|goal|goalkeeper|archer|gun|fired|basket|hits?|wall|photo|lawn|hair\w*|tailor|scissors|chef|stage|play\b"
    r"|rehears\w+|bullet|golf|whisk[e]?y|tequila|vaccin\w+|heard|microphone|onions?|diamond|editor arranges)\b"
)
STORY = r"(?:scene|video|clip|footage|it|sequence|film|action|view|camera|perspective|focus then|narrative|montage)"

SHOTS = Topic(
    claims={
        SEVERAL: (
            wording(
                rf"{STORY} (?:then |next |also |abruptly |quickly |later |suddenly |now )*(?:cuts?|transitions|switches|jumps|changes|dissolves|fades|shifts) (?:back |over )?(?:to|from|between|into)(?! (?:night|day|dusk|dawn|black and white|green|calm|the left|the right|focus))",
                r"(?:before|then|after|finally) cutting (?:back )?to",
                rf"{STORY} (?:changes|switches)(?= |$)(?! (?:to green|his|her|colou?r))",
                r"(?:several|multiple|many|various|frequent|quick|rapid|fast|jump|hard|abrupt|sharp|numerous) (?:\w+ )?cuts",
                r"(?:jump|smash|match) cut",
                r"rapid(?:ly)? edit\w+",
                r"fast paced editing",
                r"montage",
                r"(?:series|sequence|succession|collection|compilation|set|mix|variety) of (?:\w+ )?(?:shots|clips|scenes|vignettes|takes)",
                r"compilation",
                r"(?:several|multiple|two|three|four|different|various|many|alternating) (?:\w+ )?(?:shots|scenes|camera angles|takes)",
                r"(?:first|second|third|next|following|final|last|opening|closing|subsequent) (?:shot|scene) (?:shows|is|depicts|reveals|captures|presents|features|focuses)",
                r"in (?:the|a) (?:next|second|third|following|final|subsequent|later|last) (?:scene|shot|segment|part)",
                r"(?:after|with) a (?:dissolve|cross ?fade|fade|cut|wipe)",
                r"fades? to (?:black|white)",
                r"intercut",
                r"alternates between",
                r"(?:shot|scene) [12]\b",
                r"cross ?cutting",
                but_not=NOT_SHOTS,
            ),
        ),
        ONE: (
            wording(
                r"(?:single|one|unbroken|uninterrupted|uncut|continuous)(?:,? (?:single|unbroken|continuous|uninterrupted|long|static|unedited))* (?:shot|take)(?! (?:at|of espresso))",
                r"(?:shot|take|scene|footage) is (?:continuous|unbroken|uninterrupted)",
                r"one shot (?:clip|video)",
                r"uncut (?:long )?(?:take|footage|clip)",
                r"single take",
                but_not=NOT_SHOTS,
            ),
        ),
    },
    denials={
        ONE: (
            wording(
                r"(?:no|without(?: any| a)?|free of) (?:\w+ ){0,2}?(?:cuts?|scene changes?|edits|editing|transitions|shot changes?)(?! (?:flowers|to))",
            ),
        ),
    },
)
