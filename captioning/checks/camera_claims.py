# SPDX-License-Identifier: Apache-2.0
"""Does a caption say that the camera moves, or that it does not?

A text on the camera may speak of it without naming it ("Slow pan left"), any other text must name it: in it a chef pans
for gold and a deer is tracked.
"""

import re

from captioning.checks.clauses import Topic, wording

MOVING, STATIC = "moving", "static"
OWN = ("Camera Movement",)
CAMERA = (
    r"(?:we|image|picture|cinematographer|aerial view|camera|drone|lens|viewpoint|view|perspective|footage|shot"
    r"|framing|frame|operator|point of view|pov|it)"
)
NAMED = r"(?:camera|camera operator|camerawork|aerial (?:shot|view)|drone (?:shot|view|footage)|shot)"
SLOWLY = (
    r"(?:\w+ly |then |also |and |gradually |first |briefly |continuously |again |starts to |begins to |starts |begins )"
)
MOVES = (
    r"(?:pan(?:s|ned|ning)?|tilt(?:s|ed|ing)?|zoom(?:s|ed|ing)?|doll(?:y|ies|ied|ying)|truck(?:s|ed|ing)?"
    r"|track(?:s|ed|ing)?"
    r"|pedestals?|orbit(?:s|ed|ing)?|circl(?:es|ed|ing)|arcs?|push(?:es|ed|ing)? (?:in|forward|closer|toward)"
    r"|pull(?:s|ed|ing)? (?:out|back|away)|mov(?:e|es|ed|ing)|glid(?:es|ing)|drift(?:s|ing)?|float(?:s|ing)?"
    r"|follow(?:s|ing)?"
    r"|ris(?:es|ing)|rose|ascend(?:s|ing)?|descend(?:s|ing)?|lowers|sinks?|climbs|cranes|booms?|sweep(?:s|ing)?|swoops?"
    r"|fl(?:y|ies|ying)|travel(?:s|led|ling|ing)?|advanc(?:es|ing)|approach(?:es|ing)|retreat(?:s|ing)?|rotat(?:es|ing)"
    r"|roll(?:s|ing)?|spins?|tips|turns?|swings?|sways?|swaying|shak(?:es|ing)|wobbl(?:es|ing)|walks?|creeps?|slides?"
    r"|jerks?|jerking|trembl(?:es|ing)|bobs?|bobbing|reframes?|plunges|dives|skims|inches|eases|edges|closes in"
    r"|shifts?|accompanies|weav(?:es|ing)|wanders|trails|journeys|progresses)"
)
NOUNS = (
    r"(?:whip )?pans?(?: (?:to|left|right|across|up|down|from|of|shot))?",
    r"panning",
    r"(?:pan|tilt|zoom|move|orbit|track)_\w+",
    r"tilts?(?: (?:up|down)\w*)?",
    r"tilting",
    r"zoom(?:s|ing)?(?: (?:in|out))?",
    r"doll(?:y|ies|ying)(?: (?:in|out|shot|zoom|forward|back))?",
    r"track(?:ing|s)(?: shot)?",
    r"truck(?:s|ing)",
    r"push(?:es|ing)? in",
    r"pull(?:s|ing)? (?:out|back)",
    r"orbit(?:s|ing)?(?: (?:shot|movement|motion))?",
    r"(?:crane|boom|jib|gimbal|steadicam|stabili[sz]ed) (?:shot|move|movement|up|down|follows)",
    r"handheld",
    r"hand held",
    r"steadicam",
    r"(?:fly through|flyover|fly over|fly by|walk through)",
    r"(?:forward|backward|lateral|upward|downward|circular) (?:motion|movement|glide|travel|drift)",
    r"first person (?:movement|walk)",
    r"shaky",
    r"(?:camera )?shake",
    r"(?:\w+ )?(?:drift|slide|glide|creep|sweep|swoop|arc|circle|ascent|descent|rise|swing|turn|advance|crawl"
    r"|reveal|approach|retreat)"
    r"(?=,|:| (?:toward|towards|to|past|across|over|along|around|into|away|back|from|through|down|up|left|right)\b)",
    r"(?:natural |slight |gentle )?(?:bobbing|swaying|wobbling|reframing)",
    r"(?:walking|moving|travelling|riding|flying) (?:pov|perspective|point of view)",
)
SHOT = r"(?:shot|shots|footage|clip|camera|view|camerawork|video|movement|sequence|perspective)"
MODIFIED = (
    r"(?:panning|tracking|tilting|dolly|zooming|sweeping(?: aerial)?|crane|handheld|hand held|steadicam|orbiting"
    r"|gliding|shaky|travelling|traveling|moving|fly through|follow|push in|pull back)"
)
BARELY = (
    r"barely|imperceptibl|negligibl|minimal|hardly|almost no|tiny|(?:slight|small|subtle|minor|natural)(?: \w+)? "
    r"(?:shake|jitter|drift|sway|tremor|wobble)"
)
STILL = (
    r"(?:static|stationary|fixed|still|motionless|unmoving|immobile|locked(?: (?:off|down))?|unchanged|unchanging"
    r"|constant|steady and still|anchored|stable and fixed)"
)
HOW = r"(?:\w+ly |perfectly |at first |quite |all |absolutely )"
VIEW = (
    r"(?:camera(?: (?:position|angle|placement))?|shot|framing|frame|viewpoint|vantage point|perspective|view"
    r"|composition|camera work|footage)"
)

NOT_MEANT = re.compile(
    r"\b(?:security|surveillance|film|photo|digital|vintage|old|web|movie|television|speed|cctv|his|her|their|my) "
    r"camera\b"
    r"|\b(?:toward|towards|at|to|into|past|facing|from|for|behind|in front of|near) (?:the )?(?:camera|lens)\b"
    r"|\bstatic electricity\b|\b(?:tracks? down|on (?:the )?tracks?|race track|frying pan|zoom lens)\b",
    re.IGNORECASE,
)

TOPIC = Topic(
    denials={
        STATIC: (
            wording(
                r"(?:no|without(?: any| a)?|zero|little to no|absence of(?: any)?) (?:\w+ ){0,3}?camera "
                r"(?:movement|motion|moves)",
                r"no (?:\w+ ){0,2}?(?:movement|motion)(?: (?:of|by|from) the camera)",
                rf"nothing (?:about|in) the {VIEW} (?:changes|moves|shifts)",
                rf"{VIEW} (?:does not|doesn't|do not|never|did not|hardly) (?:move|change|shift|pan)\w*",
            ),
            wording(
                r"(?:no|without(?: any)?) (?:\w+ ){0,2}?(?:movement|motion|panning|pan|pans)",
                r"(?:does not|doesn't|never) move",
                fields=OWN,
            ),
        ),
    },
    claims={
        STATIC: (
            wording(
                rf"{VIEW} (?:is|are|was|remains?|stays?|holds?|keeps?|appears?|seems?|being|held|kept|stays "
                rf"put)(?: to be)? {HOW}*{STILL}",
                rf"{STILL}(?: \w+)?(?: \w+)? (?:shot|camera|framing|frame|viewpoint|view|camera position|camera "
                rf"angle|perspective|camerawork|footage|composition|vantage point)",
                r"(?:camera|shot|framing|frame) (?:holds|remains|stays) (?:steady|in place|put|where it is)",
                r"(?:on|from|mounted on) a tripod",
                r"tripod (?:shot|mounted)",
            ),
            wording(rf"(?:^)(?:{HOW}|mostly )*{STILL}(?! (?:at first|initially|object|subject))", fields=OWN),
        ),
        MOVING: (
            wording(*NOUNS, fields=OWN, but_not=BARELY),
            wording(rf"(?:(?:the|a|this) )?{CAMERA}(?: \w+)? (?:{SLOWLY})*{MOVES}", fields=OWN, but_not=BARELY),
            wording(rf"(?:^){SLOWLY}*{MOVES}", fields=OWN, but_not=BARELY),
            wording(rf"camera(?: \w+ing)? {MOVES}", fields=OWN, but_not=BARELY),
            wording(
                rf"{NAMED} (?:is )?(?:{SLOWLY})*{MOVES}",
                rf"{MODIFIED} {SHOT}",
                r"handheld (?:camera|footage|shot)",
                but_not=BARELY,
            ),
        ),
    },
    not_meant=NOT_MEANT,
)


def labelled(movements: list[str] | None) -> str | None:
    """What the labels of a model say: moving, static or nothing."""
    named = set(movements or ()) - {"unclear"}
    return None if not named else STATIC if named == {"static"} else MOVING
