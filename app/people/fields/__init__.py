"""Fields that people type: e-mail addresses, phones, places."""
