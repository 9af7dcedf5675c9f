"""What each command of `multitude` asks and tells; what it does lives in the rooms."""
