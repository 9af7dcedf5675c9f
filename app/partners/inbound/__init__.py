"""What comes in: verified, read, counted once however often it is sent, and answered item by item."""
