"""Building blocks of the networks; none of them knows what domain its inputs come from."""
