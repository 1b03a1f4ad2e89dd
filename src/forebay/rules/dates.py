"""HTTP dates: three forms, one zone, nothing guessed (RFC 9110 §5.6.7).

``email.utils`` and ``time.strptime`` take far more than these forms, and what a lenient reader
takes for a date in the future is a response that never expires.
"""

from __future__ import annotations

import re
from calendar import timegm
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache
from typing import Final

_DAY: Final = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY: Final = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
_MONTH: Final = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME: Final = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_YEAR: Final = "(?P<year>[0-9]{4})"

# The zone must be GMT; names match in any case, as RFC 9111 §4.2 asks of caches.
_FORMS: Final = tuple(
    re.compile(form, re.IGNORECASE | re.ASCII)
    for form in (
        f"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} {_YEAR} {_TIME} GMT",  # IMF-fixdate
        f"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<short>[0-9]{{2}}) {_TIME} GMT",  # RFC 850
        f"{_DAY} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} {_YEAR}",  # asctime
    )
)

_LONGEST: Final = len("Wednesday, 06-Nov-94 08:49:37 GMT")

_LAST_SECOND: Final = 253_402_300_799  # the end of the year 9999, the last that can be written


def parse_http_date(value: str, *, now: float | None = None) -> float | None:
    """Seconds since the epoch, or None where the value is none of the three forms.

    ``now`` settles the century of a two-digit year: a date more than fifty years ahead lies in
    the past. Without it years from 70 on are of the twentieth century.
    """
    trimmed = value.strip(" \t")
    if len(trimmed) > _LONGEST:  # no date; and memory is not to be filled with long values
        return None
    return _parse(trimmed, None if now is None else _year_of(now))


def format_http_date(seconds: float) -> str:
    """The IMF-fixdate of this moment, fractions cut off; bounded to the years 1970 to 9999."""
    return formatdate(int(min(max(seconds, 0), _LAST_SECOND)), usegmt=True)


def _year_of(seconds: float) -> int:
    return datetime.fromtimestamp(min(max(seconds, 0), _LAST_SECOND), UTC).year


@lru_cache(maxsize=4096)
def _parse(value: str, this_year: int | None) -> float | None:
    match = next((m for form in _FORMS if (m := form.fullmatch(value))), None)
    if match is None:
        return None
    part = match.groupdict()
    year = int(part["year"]) if "year" in part else _full_year(int(part["short"]), this_year)
    month = _MONTHS.index(part["month"].capitalize()) + 1
    second = int(part["second"])
    try:
        # A leap second is a second like the last one to us, and then one more.
        moment = datetime(
            year, month, int(part["day"]), int(part["hour"]), int(part["minute"]), min(second, 59)
        )
    except ValueError:
        return None
    if second > 60:
        return None
    return float(timegm(moment.timetuple()) + (second == 60))


def _full_year(two_digits: int, this_year: int | None) -> int:
    if this_year is None:
        return two_digits + (1900 if two_digits >= 70 else 2000)
    year = this_year - this_year % 100 + two_digits
    return year - 100 if year > this_year + 50 else year
