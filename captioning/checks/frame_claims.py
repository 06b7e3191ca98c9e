# SPDX-License-Identifier: Apache-2.0
"""What a caption claims of the frame's shape, of text that can be read in it, and of the number of shots."""

from captioning.checks.clauses import Topic, wording

PORTRAIT, LANDSCAPE, SQUARE = "portrait", "landscape", "square"
TEXT, NO_TEXT = "text", "no text"
SEVERAL, ONE = "several shots", "one shot"

VIDEO = (
    r"(?:video|clip|footage|framing|frame|format|orientation|composition|aspect ratio|aspect|shot|image|picture"
    r"|mode|layout|presentation)"
)
FILMED = r"(?:filmed|shot|recorded|framed|captured|presented|composed|oriented)"
STATED = r"(?:shot|filmed|recorded|orientation|format|framed):? (?:in |is )?"
OTHER_FRAMES = (  # things in the picture that have a frame of their own
    r"\b(?:his|her|their|a|the|two|big|large|\w+'s) (?:\w+ )?(?:phones?|smartphones?|tablets?|laptop)\b(?<!on a "
    r"smartphone)"
    r"(?<!on a phone)(?! (?:clip|video|footage|recording|style|format))|\bscroll|\b(?:tv|television|monitor"
    r"|display|screens?)\b"
)

ORIENTATION = Topic(
    claims={
        PORTRAIT: (
            wording(
                rf"portrait (?:orientation|format|oriented|mode|aspect|framing|{VIDEO})(?! painter)",
                rf"(?:tall,? )?vertical(?:ly oriented)? {VIDEO}",
                rf"{FILMED} vertically",
                rf"vertically {FILMED}",
                rf"upright (?:smartphone |phone )?{VIDEO}",
                rf"{STATED}(?:portrait|vertical)(?! of)",
                r"tall,? (?:\w+ style |narrow |slim )?(?:frame|format)",
                r"9\s*:\s*16",
                r"taller than (?:it is )?wide",
                r"height (?:of the \w+ )?exceeds (?:its|the) width",
                but_not=OTHER_FRAMES,
            ),
        ),
        LANDSCAPE: (
            wording(
                r"landscape (?:orientation|format|oriented|mode|aspect|aspect ratio|framing)",
                r"(?:wide ?screen|anamorphic|cinemascope)",
                rf"horizontal(?:ly oriented)? {VIDEO}",
                rf"{FILMED} horizontally",
                rf"horizontally {FILMED}",
                rf"{STATED}(?:landscape|horizontal)(?! of)",
                r"(?:16\s*:\s*9|21\s*:\s*9|2\.(?:35|39|40?)\s*:\s*1|1\.85\s*:\s*1)",
                r"wider than (?:it is )?(?:tall|high)",
                but_not=OTHER_FRAMES,
            ),
        ),
        SQUARE: (
            wording(
                rf"square {VIDEO}",
                r"(?:frame|picture|image|video|format|framing|composition) is (?:a )?(?:perfectly |perfect )?square",
                r"1\s*:\s*1(?![.\d])",
                r"as wide as (?:it is )?(?:tall|high)",
                but_not=OTHER_FRAMES,
            ),
        ),
    },
)

WRITING = r"(?:texts?|lettering|writing|written words|words|inscriptions?|captions|subtitles|typography)"
SEEN = r"(?:visible|on screen|readable|legible|overlaid|discernible|other|recognizable|printed|written)"
QUOTED = r"[\"“'«][^\"”»]{1,80}[\"”'»]"
SAYS = (
    r"(?:reads?|reading|says|saying|labell?ed|spells?(?: out)?|states|titled|displays|announces|marked|displaying"
    r"|showing"
    r"|proclaims|bears|with|headline,?|slogan)"
)
SCRIPT = r"(?:chinese|japanese|korean|arabic|cyrillic|hebrew|greek|thai|latin|foreign|english)"
UNREADABLE = (
    r"illegible|unreadable|not (?:legible|readable)|blurred|too (?:far|small)|so far|out of view|from behind|unknown"
    r"|can(?:not|'t) be read|nothing can be read|hidden"
)

TEXTS = Topic(
    denials={
        NO_TEXT: (
            wording(
                rf"(?:no|without(?: any)?|free (?:of|from)(?: any)?|devoid of(?: any)?|neither|lacks(?: any)?|not "
                rf"contain(?: any)?|not (?:include|feature|show|have)(?: any)?)"
                rf" (?:{SEEN},? |\w+, |\w+ (?:or|and) |signs,? (?:or )?|logos,? (?:or )?)*{WRITING}",
                rf"(?:isn't|is not|aren't|are not)(?: any)? (?:{SEEN} )?{WRITING}(?! (?:in|legible|readable|clear))",
                rf"{WRITING}[^.;]{{0,30}} (?:do not|does not|don't|doesn't|never) (?:appear|occur|show)",
                r"at no (?:point|time) (?:does|do|is|are) (?:any )?(?:text|words|writing|subtitles)",
                r"text is (?:\w+ly )?absent",
                r"text free",
                r"nothing is written",
                r"no (?:signs or )?(?:inscriptions?|lettering|numbers? or letters)",
            ),
        ),
    },
    claims={
        TEXT: (
            wording(
                rf"{SAYS} (?:\w+ ){{0,3}}?{QUOTED}",
                rf"(?:the )?(?:word|words|text|title|message|destination|phrase|slogan|name|letters|inscription"
                rf"|caption|logo|number|date|headline)s?:?,? {QUOTED}",
                rf"{QUOTED} (?:is|are) (?:written|printed|painted|displayed|visible)",
                r"the words? (?-i:[A-Z])\w+",
                r"(?:letters|lettering|lights|sign|bulbs) spells? out",
                r"(?:subtitles?|captions|credits|title|watermark|text|timestamp|characters|lettering|inscription"
                r"|words|names?) (?:\w+ )?(?:appears?|is visible|are visible|can be seen|can be read|overlays?"
                r"|rolls?|overlaid|scrolls?|fades? in|runs along|along the bottom|at the bottom|in the (?:upper"
                r"|lower|top|bottom|corner))",
                r"(?:\w+ )?subtitles (?:translate|accompany|run|are|give|in)\w*",
                r"(?:a|white|on screen) caption (?:at|in|on|introduces|identifies|names|gives|along)",
                r"(?:opening|closing|main|end) (?:titles?|credits)(?= ?,| (?:appears?|lies|is|rolls?|fades?|in)\b)",
                r"(?:on screen|overlaid|burned in|superimposed) (?:text|captions?|titles?|graphics)",
                r"credits roll",
                r"title card",
                r"lower third",
                r"(?:date|time) ?stamp",
                r"scoreboard (?:shows|reads|displays)",
                r"one can read",
                rf"{SCRIPT} (?:characters|letters|text|script|writing|lettering)",
                r"(?:names?|signs?|letters|lettering|words) in (?:cyrillic|chinese|japanese|korean|arabic|hebrew"
                r"|greek|thai)",
                r"(?:large|bold|white|big|neon|painted|gold|red) (?:\w+ )?lettering",
                r"number \d+ (?:is )?(?:printed|painted|on|written)",
                r"(?:route|bus|jersey|shirt|race|bib|start|licence plate|license plate) number",
                r"(?:logo|name|brand)[^.;]{0,40} in (?:capital |bold |large |white |red )?letters",
                r"logo with (?:its|the) name",
                r"watermark",
                r"text overlays?",
                r"there is (?!no)(?:\w+ )?text",
                but_not=UNREADABLE,
            ),
        ),
    },
)

DRINKS = r"(?:vodka|rum|whisky|whiskey|gin|tequila|schnapps|espresso|coffee)"
NOT_SHOTS = (
    rf"\bof {DRINKS}\b|\b(?:espresso|goal|goalkeeper|archer|gun|fires|fired|rifle|biathlete|basket|hits?|wall"
    rf"|fridge|photo|lawn|hair\w*"
    r"|tailor|scissors|chef|stage|play|rehears\w+|bullet|golf|vaccin\w+|nurse|doctor|heard|microphone|onions?"
    r"|diamond|editor|referee"
    r"|cutting (?:table|board)|paper)\b"
)
STORY = (
    r"(?:scene|video|clip|footage|it|sequence|film|action|view|camera|perspective|narrative|montage|picture|story|shot)"
)
THEN = r"(?:then |next |also |abruptly |quickly |later |suddenly |now )"
FILM = r"\b(?:clip|video|footage|sequence|edit(?:ed)?|consists?|compos\w+|montage|film|filmed|alternat\w+)\b"
MANY = r"(?:several|multiple|two|three|four|different|various|many|alternating|numerous)"

SHOTS = Topic(
    claims={
        SEVERAL: (
            wording(
                rf"{STORY} {THEN}*(?:cuts?|transitions|switches|jumps|changes|dissolves|fades|shifts) (?:back "
                rf"|over |away )?(?:to|from|between|into)"
                r"(?! (?:night|day|dusk|dawn|black and white|green|calm|the left|the right|focus))",
                rf"{STORY} {THEN}*(?:changes|switches|cuts away)(?=,|$| and)",
                r"(?:^|and |then )cut to(?! (?:length|size))",
                r"(?:before|then|after|finally) cutting (?:back )?to",
                r"(?:several|multiple|many|various|frequent|quick|rapid|fast|jump|hard|abrupt|sharp|numerous|with "
                r"a) (?:\w+ )?cuts? (?:to|on|between|every|from|create|give|and)",
                r"(?:jump|smash|match|hard) cuts?",
                r"(?:several|multiple|frequent|rapid|quick|numerous) cuts",
                r"(?:every|each) (?:\w+ )?(?:seconds?|beat) (?:there is )?a cut|there (?:is|are) (?!no)(?:\w+ )?cuts?",
                r"(?:cut|edited|spliced) (?:together|from (?:several|two|three|four|various|different))",
                r"rapid(?:ly)? edit\w+",
                r"fast (?:paced )?editing",
                r"montage",
                r"(?:series|sequence|succession|collection|compilation|set|mix|variety|collage|string) of (?:\w+ "
                r")?(?:shots|clips|scenes|vignettes|takes|close ups and)",
                r"compilation",
                r"(?:first|second|third|next|following|final|last|opening|closing|subsequent) (?:shot|scene) "
                r"(?:shows|is|depicts|reveals|captures|presents|features|focuses)",
                r"in (?:the|a) (?:next|second|third|following|final|subsequent|later|last) (?:scene|shot|segment|part)",
                r"(?:after|with) a (?:dissolve|cross ?fade|fade|cut|wipe)",
                r"fades? to (?:black|white)",
                r"(?:image|picture|scene|shot) fades out",
                r"intercut",
                r"alternates between",
                r"(?:shot|scene) (?:[12]|one|two|three)\b",
                r"cross ?cutting",
                but_not=NOT_SHOTS,
            ),
            wording(
                rf"{MANY} (?:\w+ )?(?:shots|scenes|camera angles|takes|angles)",
                fields=["Shot Type", "Camera Movement", "Style", "Video Atmosphere"],
                but_not=NOT_SHOTS,
            ),
            wording(
                rf"{FILM}[^.;]*\b{MANY} (?:\w+ )?(?:shots|scenes|takes)",
                but_not=NOT_SHOTS,
            ),
        ),
        ONE: (
            wording(
                r"(?:single|one|unbroken|uninterrupted|uncut|continuous)(?:,? (?:single|unbroken|continuous"
                r"|uninterrupted|long|static|unedited|uncut))*"
                rf" (?:shot|take|recording)(?! (?:at\b|of {DRINKS}))",
                r"(?:shot|take|scene|footage) is (?:continuous|unbroken|uninterrupted|uncut|unedited)",
                r"one shot (?:clip|video)",
                r"uncut (?:long )?(?:take|footage|clip)",
                r"in (?:a single|one) go",
                but_not=NOT_SHOTS,
            ),
        ),
    },
    denials={
        ONE: (
            wording(
                r"(?:no|without(?: any| an?)?|free of) (?:\w+ ){0,2}?(?:cuts?|scene changes?|edits?|editing"
                r"|transitions|shot changes?)(?! (?:flowers|to))",
            ),
        ),
    },
)
