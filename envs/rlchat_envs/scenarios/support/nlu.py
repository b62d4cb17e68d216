"""The words a customer understands: what names a fact, what names a solution, what cues an act.

Patterns run over lower-case text without accents or apostrophes ("we'll" reads "we ll").
"""

from __future__ import annotations

from rlchat_envs.nlu.cues import any_of as _any
from rlchat_envs.nlu.lexicon import Lexicon


def _words(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


_THING = r"(?:order|purchase)"
_PARCEL = r"(?:parcel|package|delivery|consignment|shipment|box|courier|driver|carrier)"
_GO = r"(?:go|going|goes|send|sent|sending|deliver|delivered|ship|shipped|bring|redirect|headed)"
_WRONG = (
    r"(?:wrong|happen\w*|broke\w*|problem|issue|matter|trouble|damage\w*|symptoms?|"
    r"malfunction\w*|fail\w*)"
)
_GOT = (
    r"(?:received?|got|get|arrived?|delivered|came|come|turned up|inside|sent you|ended up|"
    r"found?|unpack\w*)"
)
_KIND = r"(?:sizes?|colou?rs?|models?|variants?|versions?|styles?|finish|shade)"

_ASKED = {
    "order_number": _any(
        rf"\b{_THING}(?: s)? ?(?:number|no|nr|num|id|code|reference|ref)\b",
        rf"\b{_THING} ?#|#\W*(?:of|for) (?:your|the) {_THING}",
        (
            r"\b(?:number|id|reference|ref|code|digits) (?:of|for|on|from|to) "
            rf"(?:your|the|this|that) (?:{_THING}|confirmation|receipt|invoice)"
        ),
        rf"\b(?:which|what) {_THING}\b",
        r"\b(?:confirmation|reference|booking) (?:number|no|code|id)\b",
        (
            r"\b(?:number|code|reference|ref|digits)\b.{0,40}"
            r"\b(?:confirmation|receipt|invoice|starts? with|begins? with)\b"
        ),
    ),
    "postcode": _any(
        r"\b(?:post ?code|postal code|zip ?code)\b",
        (
            r"\b(?:(?:your|delivery|and|or) zip|the zip (?:pls|please))\b"
            r"(?! (?:is|isn|was|not|got|broke|stuck))"
        ),
    ),
    "reason": _any(
        r"\breasons?\b",
        r"\bwhy\b",
        r"\bhow come\b",
        r"\bwhat (?:made|makes|led|prompted) you\b",
        (
            r"\bwhats?\b.{0,40}"
            r"\b(?:sending|returning|giving|bringing|send|return|give|bring|parting|part)\b.{0,20}"
            r"\b(?:back|it|item|with)\b"
        ),
        (
            r"\b(?:don t|dont|do not|didn t|didnt|not) (?:to )?"
            r"(?:like|suit|want|happy|satisfied|keep)\b"
        ),
        (
            r"\b(?:dissatisfied|unhappy|put you off|disappoint\w*|wrong (?:for|about) you|"
            r"change of heart|changed your mind)\b"
        ),
    ),
    "variant": _any(
        rf"\b(?:which|what|preferred|desired|new|right|other)\b.{{0,30}}\b{_KIND}\b",
        r"\b(?:which|whats?|preferred|desired) (?:one|option)\b",
        rf"\b{_KIND}\b.{{0,40}}\b(?:instead|want|like|prefer|need|after|wish|in mind)\b",
        (
            r"\b(?:what|which)\b.{0,50}"
            r"\b(?:instead|in exchange|in its place|swap\w* (?:it )?(?:for|to))\b"
        ),
    ),
    "payment": _any(
        r"\bhow .{0,30}\b(?:pay|paid|paying|settled?|payment)\b",
        r"\bpayment (?:method|type|option|means)\b",
        r"\b(?:method|means|way|form|kind|mode|type) of (?:payment|paying)\b",
        r"\b(?:what|which|did you) .{0,30}\b(?:pay|paid|payment|card|charged?)\b",
        r"\b(?:way|how) you paid\b",
        r"\b(?:credit card|card|paypal|klarna|invoice|bank transfer)\b.{0,30}\bor\b",
    ),
    "new_address": _any(
        (
            r"\b(?:new|correct|right|updated|other|different|full|exact|proper|"
            r"(?<!of the )delivery|shipping) (?:\w+ ){0,2}(?:address|street|destination)\b"
        ),
        rf"\baddress\b.{{0,45}}\b(?:{_GO}|instead|use|want|like|prefer)\b",
        rf"\bwhere\b.{{0,40}}\b{_GO}\b",
        r"\b(?:what|which) address\b",
        r"\bwhere .{0,20}\b(?:moved|living|live)\b",
    ),
    "fault": _any(
        r"\b(?:faults?|defects?|symptoms?)\b",
        rf"\bwhats?\b.{{0,40}}\b{_WRONG}\b",
        r"\bdescri(?:be|ption)\b",
        rf"\bhow .{{0,40}}\b(?:{_WRONG}|misbehav\w*|looks?|acting)\b",
        (
            r"\b(?:nature|extent|kind|sort|details?|pictures?|photos?) "
            rf"(?:of|about) (?:the )?(?:{_WRONG}|defect|fault)"
        ),
        r"\b(?:which|what) (?:part|piece|bit)s?\b",
        rf"\bwhere\b.{{0,30}}\b(?:{_WRONG}|crack\w*|scratch\w*|dents?)\b",
        (
            r"\b(?:what|way|how|exactly|when)\b.{0,40}"
            r"\b(?:not work\w*|n t work\w*|isn t .{0,15}work\w*|stopped|is it doing|does it do|"
            r"it does)\b"
        ),
        r"\bwhat (?:is it|s it|it s) doing\b",
    ),
    "received": _any(
        rf"\bwhats?\b.{{0,40}}\b(?:{_GOT}|in the (?:{_PARCEL})|contain\w*)\b",
        (
            r"\bwhich (?:item|product|article|thing|one)\b.{0,30}"
            rf"\b(?:{_GOT}|in the {_PARCEL}|reach\w*|there)\b"
        ),
        (
            r"\b(?:item|product|thing|article) (?:that |which )?(?:you |we )?"
            rf"(?:actually |have |did )?{_GOT}\b"
        ),
        rf"\b(?:contents? of|in) (?:the|your) {_PARCEL} (?:instead)?",
    ),
    "email": _any(r"\be ?-?mail\b"),
    "phone": _any(r"\b(?:tele)?phone\b", r"\bmobile\b", r"\bnumber .{0,20}\b(?:call|reach) you\b"),
    "name": _any(
        r"\b(?:full|first|last|family|your|sur) ?names?\b",
        r"\b(?:which|what) name\b",
        r"\bname (?:on the (?:order|account)|of|under|is it)\b",
        r"\bwho (?:am i|is) (?:speaking|talking|chatting)\b|\bspeaking (?:with|to)\b",
    ),
}

_OFFERED = {
    "refund": _any(
        r"\brefund",
        r"\breimburs",
        r"\bmoney (?:is |will be |goes |comes )?(?:right |straight )?back\b",
        r"\bpay(?:ing)? (?:you |it |everything )?back\b",
        (
            r"\b(?:return|send|give|get|transfer|credit)\w* .{0,30}"
            r"\b(?:money|amount|price|payment|cent|penny|sum)\b"
            r"(?:.{0,20}\b(?:back|card|bank)\b)?"
        ),
        (
            r"\b(?:money|payment|amount|price|sum)\b.{0,40}"
            r"\b(?:back to|returned to|(?:your|the) (?:card|bank))\b"
        ),
    ),
    "store_credit": _any(
        r"\b(?:store|shop|account) ?credit\b",
        r"\bcredit (?:note|balance)\b",
        r"\bgift (?:card|balance|credit)\b",
        r"\bcredit\w*\b.{0,40}\b(?:account|shop|store|balance|with us)\b",
        r"\b(?:account|balance)\b.{0,30}\bcredit\b",
        r"\b(?:balance|wallet)\b.{0,40}\bspend\b",
    ),
    "replacement": _any(
        r"\breplac(?:e|ing|ement|ed)\b(?!.{0,25}\baddress)",
        (
            r"\b(?:send|ship|post|mail|dispatch|get|getting|have|deliver|sending|shipping|posting|"
            r"dispatching)\b.{0,30}"
            r"\b(?:new|another|second|fresh|identical|brand new|correct|right) "
            r"(?!address|place|home|flat|house|size|colou?r|model|location)\w+"
        ),
        r"\bsame (?:\w+ )?again\b|\ba (?:new|fresh) one\b",
        r"\bre ?-?(?:send|ship|sent|shipped|sending)\b",
        r"\b(?:new|another|fresh) (?:one|unit|copy)\b.{0,40}\b(?:way|free|send|ship|out|you)\b",
    ),
    "exchange": _any(
        r"\bexchang\w+",
        r"\bswap\w*",
        r"\bswitch\w*\b(?!.{0,12}\b(?:on|off)\b)",
        r"\btrad(?:e|ing) it\b",
    ),
    "repair": _any(
        r"\brepair",
        r"\bfix(?:ed|ing)?\b(?!.{0,12}\baddress)",
        r"\b(?:workshop|technicians?|service cent(?:er|re)|mend\w*)\b",
    ),
    "cancellation": _any(
        r"\bcancel",
        r"\bcall(?:ed|ing)? (?:it |the order |your order |that order )?off\b",
        rf"\b{_THING} (?:is|has been|was) (?:now )?(?:stopped|called off|withdrawn|voided)",
        rf"\b(?:stop|stopp\w+|void\w*|withdraw\w*) (?:it\b|(?:the|your|this) {_THING}\b)",
    ),
    "address_change": _any(
        (
            r"\b(?:chang|updat|correct|amend|switch|edit|enter|sav|mov|replac)\w*\b.{0,40}"
            r"\b(?:address|destination)\b"
        ),
        (
            r"\baddress\b.{0,50}"
            r"\b(?:chang|updat|correct|amend|edit|in place|entered|saved|now on|been put)\w*"
        ),
        rf"\b{_GO}\b.{{0,20}}\b(?:your |the |that )new (?:address|place|home|flat|house)\b",
    ),
    "trace": _any(
        r"\btrac(?:e|ing|er)\b",
        r"\binvestigat",
        rf"\b(?:search|inquiry|enquiry|hunt|look)\b.{{0,40}}\b(?:for it|{_PARCEL}|post office)\b",
        r"\b(?:carrier|courier)\b.{0,40}\b(?:search|look for|find|locate|hunt)",
        (
            rf"\b(?:track|hunt) (?:it|(?:your|the) {_PARCEL}) down\b|"
            rf"\b(?:locate|find) (?:your|the) {_PARCEL}\b"
        ),
    ),
    "voucher": _any(
        r"\bvouchers?\b",
        r"\bcoupons?\b",
        r"\b(?:discount|promo|money off|off)\b.{0,25}\b(?:code|next|future|order|purchase)\b",
        r"(?:percent|%) (?:off|code)\b",
        r"\bdiscount\b",
    ),
    "pickup": _any(
        (
            r"\b(?:pick|collect)\w*[ -]?(?:up)?[ -]?"
            r"(?:point|station|shop|location|place|store|counter|desk)\b"
        ),
        r"\blockers?\b",
        r"\bpick ?-?up\b",
        r"\bparcel ?shop\b|\bpackstation\b|\bdrop ?-?(?:off )?point\b",
    ),
    "wait": _any(
        r"\bwait",
        r"\b(?:be|little|bit of|some|ask for your) patien(?:t|ce)\b|\bbear with\b",
        r"\bon (?:its|the|it s) way\b|\bon (?:schedule|time|track)\b|\bunderway\b|\bin transit\b",
        r"\b(?:back|again) in stock\b|\brestock\w*|\bback in\b.{0,15}\bstock\b",
        (
            r"\b(?:will|should|ll|due to) "
            r"(?:arrive|reach you|be with you|be there|turn up|land|get to you)\b"
        ),
        r"\b(?:sit|hang|hold) (?:tight|on)\b",
    ),
}

# Refusing the parcel is itself phrased as a refusal.
_SENT_BACK = _any(
    rf"\b(?:refus|reject|declin)\w*\b.{{0,40}}\b(?:{_PARCEL}|door|it|acceptance)\b",
    rf"\b(?:not|dont|don t|n t) (?:accept|take|sign for|open)\b.{{0,40}}\b(?:it|{_PARCEL})\b",
    rf"\b(?:turn|send|wave)\w* (?:it|(?:the|your) {_PARCEL}) (?:away|back)\b(?! to you)",
    (
        r"\b(?:turn|send|sent|goes|go|comes?|coming|travel\w*|return\w*)\b.{0,30}"
        r"\bback to (?:us|our|the (?:sender|warehouse|depot))\b"
    ),
    r"\breturn (?:it )?to sender\b|\bsay no\b.{0,20}\bdoor\b",
)

# Words worth mending when misspelt, and their neighbours that are right as they stand.
_MENDED = _words(
    "order number reference postcode postal reason returning colour color model variant version",
    "payment address delivery delivered shipping fault defect problem damage damaged broken wrong",
    "describe happened received arrived parcel package email phone refund reimburse reimbursement",
    "money credit replacement replace exchange repair workshop cancel cancelled update updated",
    "changed carrier courier investigation voucher coupon discount pickup locker collection",
    "refuse schedule please confirm confirmation provide",
)
_RIGHT = _words(
    "orders numbers other faulty default problems arrives arrive wrongly repaired repairs cancels",
    "refunds refunded honey credits exchanged updates dated replaced replaces parcels packages",
    "receives receive refused refuses discounts mobile modern charged changes change prove",
    "provided provides model models colours lockers vouchers coupons carriers couriers cancelling",
    "canceled defects faults reasons borders ordered prices phones emails repairing damages",
    "confirmed describes payments versions variants pleased worded whorl orderly counted monkey",
    "postage reserve refer deceived relieved",
)

LEXICON = Lexicon(
    asked=_ASKED,
    offered=_OFFERED,
    defiant={"send_back": _SENT_BACK},
    # "What is wrong with it" and "which model arrived": the more specific subject wins.
    narrower=(
        ("received", "variant"),
        ("received", "fault"),
        ("variant", "fault"),
        ("fault", "reason"),
        ("email", "new_address"),
    ),
    mended=_MENDED,
    right=_RIGHT,
)
