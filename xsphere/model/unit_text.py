"""Texts of units read by a grammar of their own: products of named units with small powers.

Nothing is evaluated, and a long or strange text is refused before any library sees it. What a name
means is looked up by the caller.
"""

import re
from collections.abc import Iterator

LONGEST = 100
LARGEST_POWER = 12
DEEPEST = 4

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_TOKEN = re.compile(
    r"\s*(?:"
    r"(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[^\W\d_](?:[^\W\d]*[^\W\d_])?|[%°µ'\"]+[^\W\d_]*)"
    r"|(?P<power>\*\*|\^)"
    r"|(?P<sign>[+-])"
    r"|(?P<times>[*.·⋅])"
    r"|(?P<over>/)"
    r"|(?P<open>\()"
    r"|(?P<close>\))"
    r")"
)
_POWERS = {"square": 2, "sq": 2, "cubic": 3}
_POWERS_AFTER = {"squared": 2, "cubed": 3}
# a degree is an angle, and by its scale a temperature: two words that are one name
_DEGREE = re.compile(
    r"(?:\bdeg(?:ree)?s?|°)[ _]?(c|celsius|k|kelvins?|f|fahrenheit)\b", re.IGNORECASE
)
_SCALES = {"c": "degC", "k": "K", "f": "degF"}

Factors = list[tuple[str, int]]


class UnitTextError(ValueError):
    """A text that does not read as units."""


def parsed_units(text: str) -> tuple[float, Factors]:
    """Scale and powers of named units that a text stands for.

    Parameters
    ----------
    text : str
        As CF, UDUNITS, GRIB and people write them: ``"kg m-2"``, ``"m s**-1"``, ``"W/(m2 sr)"``,
        ``"meters per second"``, ``"10^-5 s-1"``.

    Returns
    -------
    scale : float
        Product of its numbers.
    factors : list of (str, int)
        Names and their powers.

    Raises
    ------
    UnitTextError
        If it is too long or no such text.

    Examples
    --------
    >>> parsed_units("kg m**-2")
    (1.0, [('kg', 1), ('m', -2)])
    >>> parsed_units("10^-5 meters per second")
    (1e-05, [('meters', 1), ('second', -1)])
    """
    if len(text) > LONGEST:
        raise UnitTextError(f"it has {len(text)} characters, more than {LONGEST}")
    plain = text.replace("\N{MINUS SIGN}", "-").translate(_SUPERSCRIPTS)
    plain = _DEGREE.sub(lambda found: _SCALES[found[1][0].lower()], plain)
    reader = _Reader(plain)
    scale, factors = reader.product(1, depth=0)
    if reader.kind is not None:
        raise UnitTextError(f"{reader.word!r} has no place there")
    if any(abs(power) > LARGEST_POWER for _, power in factors):
        raise UnitTextError(f"a power is larger than {LARGEST_POWER}")
    return _sound(scale), factors


def _sound(number: float) -> float:
    if not 1e-30 <= number <= 1e30:
        raise UnitTextError("its number is absurd")
    return number


def _raised(scale: float, power: int) -> float:
    try:
        return _sound(_sound(scale) ** power)
    except OverflowError:
        raise UnitTextError("its number is absurd") from None


def _tokens(text: str) -> Iterator[tuple[str | None, str]]:
    position, end = 0, len(text.rstrip())
    while position < end:
        found = _TOKEN.match(text, position)
        if found is None:
            raise UnitTextError(f"{text[position]!r} has no place there")
        assert found.lastgroup is not None
        yield found.lastgroup, found[found.lastgroup]
        position = found.end()
    yield None, ""


class _Reader:
    """A text read word by word, one word ahead."""

    def __init__(self, text: str) -> None:
        self._words = _tokens(text)
        self.advance()

    def advance(self) -> None:
        self.kind, self.word = next(self._words)

    def product(self, sign: int, *, depth: int) -> tuple[float, Factors]:
        """Factors up to the end or a closing parenthesis."""
        scale, factors = self.factor(sign, depth)
        while self.kind not in (None, "close"):
            over = self.kind == "over" or (self.kind == "name" and self.word.lower() == "per")
            if over or self.kind == "times":
                self.advance()
            # a solidus is of the next factor alone
            more, others = self.factor(-sign if over else sign, depth)
            scale, factors = scale * more, factors + others
        return scale, factors

    def factor(self, sign: int, depth: int) -> tuple[float, Factors]:
        word = self.word
        if self.kind == "number":
            self.advance()
            return self._number(word) ** sign, []
        if self.kind == "open":
            return self._group(sign, depth)
        if self.kind != "name":
            raise UnitTextError(f"{word or 'the end'!r} stands where a unit is expected")
        self.advance()
        before = _POWERS.get(word.lower(), 1)
        if before > 1:
            _, factors = self.factor(sign, depth)
            return 1.0, [(name, power * before) for name, power in factors]
        return 1.0, [(word, sign * self._power())]

    def _group(self, sign: int, depth: int) -> tuple[float, Factors]:
        if depth == DEEPEST:
            raise UnitTextError("its parentheses are too deep")
        self.advance()
        scale, factors = self.product(sign, depth=depth + 1)
        if self.kind != "close":
            raise UnitTextError("a parenthesis is not closed")
        self.advance()
        power = self._power()
        return _raised(scale, power), [(name, own * power) for name, own in factors]

    def _number(self, word: str) -> float:
        """A number; ten may have a power."""
        number = float(word)
        if self.kind == "power" or (self.kind == "sign" and word == "10"):
            if word != "10":
                raise UnitTextError("only the number 10 may have a power")
            number = 10.0 ** self._power(30)
        return _sound(number)

    def _power(self, largest: int = LARGEST_POWER) -> int:
        """What stands behind a unit: ``2``, ``-2``, ``^2``, ``**-2``, ``squared`` or nothing."""
        if self.kind == "name" and self.word.lower() in _POWERS_AFTER:
            power = _POWERS_AFTER[self.word.lower()]
            self.advance()
            return power
        said = self.kind == "power"
        if said:
            self.advance()
        sign = -1 if (self.kind, self.word) == ("sign", "-") else 1
        if self.kind == "sign":
            said = True
            self.advance()
        if self.kind != "number":
            if said:
                raise UnitTextError("a power is not a number")
            return 1
        if not self.word.isdigit() or int(self.word) > largest:
            raise UnitTextError(f"the power {self.word} is no integer up to {largest}")
        power = sign * int(self.word)
        self.advance()
        return power
