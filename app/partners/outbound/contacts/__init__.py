"""Contacts: whom an organization is shown because they agreed to hear from it, page by page."""
