"""Personal data: export and erasure over all rooms, and retention in this one."""
