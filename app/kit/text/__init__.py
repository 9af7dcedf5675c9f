"""What people type and read: fields, locales, countries, URLs."""
