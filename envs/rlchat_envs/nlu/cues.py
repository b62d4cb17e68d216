"""What makes an English clause a question, an offer, a refusal or idle talk, in any scenario.

Patterns run over lower-case text without accents or apostrophes ("we'll" reads "we ll").
"""

from __future__ import annotations

import re


def any_of(*patterns: str) -> re.Pattern[str]:
    """One pattern that finds whatever any of ``patterns`` finds."""
    return re.compile("|".join(patterns))


ASK_CUE = any_of(
    r"\?",
    (
        r"\b(?:please|pls|plz|kindly|(?:could|can|would|will) (?:you|u)|(?:can|could|may|might) i|"
        r"whats?|which|why|how|where|who|did (?:you|u)|was (?:it|that))\b"
    ),
    (
        r"\b(?:needs?|required?|share|tell (?:me|us)|provide|give (?:me|us)|"
        r"let (?:me|us) (?:know|have)|send (?:me|us)|confirm|state|supply)\b"
    ),
    (
        r"\b(?:looking for|know|ask|missing|pop|drop|help me with|mind|describe|name|specify|quote|"
        r"wondering|explain|remind|grateful|appreciate|love)\b"
    ),
)
# Cues of ASK_CUE that nobody uses who does not ask.
QUESTION = any_of(
    r"\?",
    r"\b(?:whats?|which|why|how|where|who|when|(?:do|did|are|have) you|is it|(?:may|can) i)\b",
    r"\b(?:(?:tell|give) (?:me|us)|let (?:me|us) (?:know|have)|share|provide|confirm|state)\b",
)
OFFER_CUE = any_of(
    r"\b(?:i|im|ive|ill|id|we|weve|well|wed|you|youll|your|ll|ve|u|ull|let|lets|shall|about|get|"
    r"will|can|offer\w*|has|have|is|are|it|its|happy|glad|going|would|please|simply|just|be|been|"
    r"here|another|full|the|take|call|go|see|try|use|drink|rest|put|hold|stay|keep|move|lie|build|"
    r"suggestion)\b"
)
REFUSAL = any_of(
    (
        r"\b(?:can ?not|cant|can t|couldn t|couldnt|not able|unable|no longer|not possible|"
        r"impossible|wont|won t|will not|isn t|isnt|is not|are not|aren t)\b"
    ),
    (
        r"\bnot (?:available|eligible|covered|allowed|permitted|an option|something|refund|replace|"
        r"exchange|repair|cancel|change|offer|give|issue|recommend|advise|suggest)|\bavoid\b"
    ),
    r"\bno (?:\w+ )?(?:refund|money|replacement|exchange|repair|voucher|swap|coupon|cancel)",
    (
        r"\b(?:too late|past the point|out of the question|ruled? out|never|neither|nor|do not|"
        r"don t|dont|doesn t|does not|without)\b"
    ),
)
# Clauses that commit to nothing.
IDLE = any_of(
    r"^\W*(?:if|whether|once|before|in case|when|after)\b",
    r"\b(?:once|as soon as) (?:it|the|we)\b",
    r"\b(?:records?|status|system|checked)\b[^:]*:",
    (
        r"\b(?:check|see|find out|understand|know|look into|looking into|ask) "
        r"(?:if|whether|what|why|into)\b"
    ),
    r"\b(?:you asked|you want(?:ed)?|you (?:would|d) like to|you wish to|your request)\b",
    r"\babout (?:the|your|a) (?:refund|return|exchange|cancellation|warranty|repair|replacement)",
)
# Removed before anything else is read: thanks for a fact, and what is offered in place of what.
ASIDE = any_of(
    r"\b(?:thanks|thank you|thx|cheers)\b[^.!?,;]*\bfor\b[^.!?,;]*",
    r"\b(?:sorry|apolog\w+)\b[^.!?,;]*\b(?:for|about)\b[^.!?,;]*",
    r"\b(?:instead of|rather than|in place of) (?:the |a |an |your )?\w+(?: \w+)?",
)
CLAUSE = any_of(
    r"(?<=[.!?;])\s+",
    r"\s+[-\u2013\u2014]+\s+",
    r",?\s+\b(?:but|however|though|although|yet|so)\b,?\s+",
    r",?\s+and\s+(?=(?:i|we|you|it) )",
    r",\s+(?=(?:i|we|you|it|its|here|what|that|this|the|your|please) )",
    r"\n+",
)
