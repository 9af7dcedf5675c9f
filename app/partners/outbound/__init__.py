"""What goes out: announced, made into messages, written when it is sent, delivered; and what can be pulled."""
