"""Serving: uvicorn as this service wants it, with bounds on what one client, and all of them, can take up."""
