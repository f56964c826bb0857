"""Networks, the schedules of their mixers, and the table of variants."""
