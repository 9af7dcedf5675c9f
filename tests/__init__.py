"""The tests, and in `tests/support` what they share with each other and with `bench`."""
