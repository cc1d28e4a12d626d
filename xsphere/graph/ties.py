"""When two distances are the same."""

# Lengths that differ by less than one part in 10**9 count as equal,
TIE_TOLERANCE = 1e-9
# and so do those that rounding of unit vectors cannot tell apart.
ROUNDING = 1e-15
