"""What tests of several kinds share."""

LONGER_THAN_A_TEST_S = 1000.0
"""A patience that pytest's own limit cuts short: who waits it out fails, however slow the machine."""
