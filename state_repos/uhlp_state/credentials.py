"""How credentials look that are written out: by their own form, or by the name that stands before them.

No proof that a text holds none: a password without a name looks like any other word.
"""

import re

import re2

ESCAPE = r"\\[bfnrt]|\\u[0-9A-Fa-f]{4}"
"""A control or other character as JSON has it, whose last letter or digit is no part of what follows."""

_PRIVATE_KEY = "[A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"

FORMS = re2.compile(
    # Whatever stands between the lines, be it JSON or a quotation; without its end, all the rest.
    rf"(-----BEGIN {_PRIVATE_KEY}(?s:.*?)(?:-----END {_PRIVATE_KEY}|\z)"
    r"|\$argon2(?:id|i|d)\$[A-Za-z0-9$=,+/]{20,})"
    rf"|(?:^|[^A-Za-z0-9]|{ESCAPE})"
    r"([spr]k[-_][A-Za-z0-9_-]{16,}"
    r"|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,}|glpat-[A-Za-z0-9_-]{20,}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}(?:\b|_)|AIza[A-Za-z0-9_-]{35}"
    r"|hv[sb]\.[A-Za-z0-9_-]{20,}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"
    r"|(?i:bearer\s+[A-Za-z0-9._~+/-]{20,}=*))"
)
"""Keys and tokens that are known by their form; the group that took part is the credential.

On RE2, since they may be as long as a text: it is linear.
"""

FORMS_HINT = (
    r"-----BEGIN|[spr]k[-_]|gh[pousr]_|github_pat|glpat|xox|AKIA|ASIA|AIza|hv[sb]\.|eyJ"
    r"|[Bb][Ee][Aa][Rr][Ee][Rr]|\$argon2"
)
"""What occurs in each of `FORMS`; quicker to search for."""

_FIELD = re.compile(
    r"auth|cookie|token|secret|passw|credential|api[-_]?key|access[-_]?key|private[-_]?key", re.IGNORECASE
)

# By its end: `--token` is followed by one, `--token-file`, `--max-tokens` and `--no-password` are not.
_NAME = (
    r"(?!-*no[-_])[\w.-]*(?:token|secret|password|passwd|passphrase|pwd|credentials?|authorization|cookie"
    r"|api[-_]?key|access[-_]?key|private[-_]?key|secret[-_]?key)"
)

_OPTION = re.compile(rf"--?{_NAME}", re.IGNORECASE)

_NAMED = re.compile(rf"(?<![\w.-]){_NAME}[\"']?\s*[=:]\s*[\"']?(?=[^\s\"'&;,])", re.IGNORECASE)

_PASSWORD_IN_URL = re.compile(r"://[^/\s:@]*:[^/\s@]+@")


def is_field(name: str) -> bool:
    """Whether this is the name of a header or a variable that holds a credential."""
    return _FIELD.search(name) is not None


def is_option(argument: str) -> bool:
    """Whether the argument after this one is a credential."""
    return _OPTION.fullmatch(argument) is not None


def are_in(text: str) -> bool:
    """Whether a credential is written out: a token or key, a URL's password, or `password=…` and its like."""
    return any(pattern.search(text) is not None for pattern in (FORMS, _PASSWORD_IN_URL, _NAMED))
